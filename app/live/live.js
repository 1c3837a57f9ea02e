// The page's own code: a session over a WebSocket, which goes on after a dropped connection without losing sound.
const RATE = 16000;
const FRAME_MS = 40;
const SECONDS = 10;
const COLOURS = ["#1e88e5", "#e53935", "#43a047", "#fb8c00", "#8e24aa", "#00897b", "#6d4c41", "#d81b60", "#546e7a", "#c0ca33", "#5e35b1", "#f06292"];
const NUMBER = { audio: 0, video: 1, image: 2 };

const $ = (id) => document.getElementById(id);
const cards = new Map();
let talk = null;

class Session {
  constructor(card) {
    this.card = card;
    this.pending = [];
    this.sequence = 0;
    this.received = 0;
    this.session = null;
    this.over = false;
    this.connect();
  }

  connect() {
    const url = new URL(`v1/models/${this.card.id}/stream`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.ready = false;
    this.socket.onopen = () => this.send(this.session ? { type: "session.start", session: this.session, received: this.received } : this.begin());
    this.socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    this.socket.onclose = ({ code }) => {
      this.ready = false;
      if (this.over) return;
      if (code === 1006 || code === 1005 || code === 1012) {
        say("The connection was lost: trying again…", true);
        setTimeout(() => this.over || this.connect(), 1000);
      } else {
        stop(code === 1000 ? "The session is over." : null);
      }
    };
  }

  begin() {
    const modalities = {};
    if (hears(this.card)) modalities.audio = { encoding: "pcm_s16le", sample_rate: RATE };
    const seen = sees(this.card);
    if (seen) modalities[seen] = { encoding: "jpeg" };
    const options = this.card.labels ? { interim: 0.1, top_k: Math.min(this.card.labels.length, COLOURS.length) } : {};
    return { type: "session.start", modalities, options };
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  chunk(modality, payload, seconds) {
    const data = new Uint8Array(16 + payload.byteLength);
    const header = new DataView(data.buffer);
    header.setUint32(0, this.sequence, true);
    header.setUint8(4, NUMBER[modality]);
    header.setFloat64(8, seconds, true);
    data.set(new Uint8Array(payload), 16);
    this.pending.push({ sequence: this.sequence++, data });
    // What a lost connection did not take is sent again; what is too old by then is given up.
    if (this.pending.length > 1000) this.pending.shift();
    if (this.ready) this.socket.send(data);
  }

  hear(event) {
    if (event.type === "session.started") {
      this.session = event.session;
      this.taken(event.next_sequence - 1);
      for (const { data } of this.pending) this.socket.send(data);
      this.ready = true;
      say(`${event.model} ${event.version} is listening.`);
    } else if (event.type === "credit") {
      this.taken(event.acknowledged);
    } else if (event.type === "final") {
      if (event.event <= this.received) return;
      this.received = event.event;
      this.send({ type: "credit", received: this.received });
      for (const word of event.words) show(word.word, word.start, word.end, word.probability);
      if (event.captions) show(event.captions[0].text, event.start, event.end);
      partial("");
    } else if (event.type === "partial") {
      if (event.predictions) strip.add(event.time, event.predictions);
      if (event.text !== undefined) partial(event.text);
    } else if (event.type === "error") {
      say(`${event.detail} ${event.remedy || ""}`, true);
    } else if (event.type === "warning") {
      say(event.detail, true);
    }
  }

  taken(sequence) {
    while (this.pending.length && this.pending[0].sequence <= sequence) this.pending.shift();
  }

  end() {
    this.over = true;
    if (this.socket.readyState === WebSocket.OPEN) this.send({ type: "session.end" });
  }
}

class Strip {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
    this.labels = [];
  }

  clear(labels) {
    this.points = [];
    this.labels = [];
    $("likely").hidden = !labels;
    $("legend").replaceChildren();
    this.draw();
  }

  colour(label) {
    let place = this.labels.indexOf(label);
    if (place < 0) {
      place = this.labels.push(label) - 1;
      const item = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = COLOURS[place % COLOURS.length];
      item.append(mark, label);
      $("legend").append(item);
    }
    return COLOURS[place % COLOURS.length];
  }

  add(time, predictions) {
    this.points.push({ time, predictions });
    while (this.points[0].time < time - SECONDS) this.points.shift();
    this.draw();
  }

  draw() {
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (!this.points.length) return;
    const last = this.points.at(-1).time;
    const lines = new Map();
    for (const { time, predictions } of this.points) {
      for (const { label, probability } of predictions) {
        if (probability < 0.05 && !lines.has(label)) continue;
        if (!lines.has(label)) lines.set(label, []);
        lines.get(label).push([width * (1 - (last - time) / SECONDS), (height - 4) * (1 - probability) + 2]);
      }
    }
    pen.lineWidth = 2.5;
    for (const [label, points] of lines) {
      pen.strokeStyle = this.colour(label);
      pen.beginPath();
      for (const [x, y] of points) pen.lineTo(x, y);
      pen.stroke();
    }
  }
}

const strip = new Strip($("strip"));

const hears = (card) => "audio" in card.modalities;
const sees = (card) => (card.streaming_modalities || Object.keys(card.modalities)).find((name) => name === "image" || (name === "video" && card.task === "transcription"));

function say(text, error = false) {
  $("status").textContent = text;
  $("status").className = error ? "error" : "";
}

function show(text, start, end, probability) {
  const item = document.createElement("li");
  const word = document.createElement("b");
  word.textContent = text;
  const times = document.createElement("small");
  const until = end > start ? `–${end.toFixed(2)}` : "";
  times.textContent = `${start.toFixed(2)}${until} s${probability === undefined ? "" : `, ${Math.round(100 * probability)} %`}`;
  item.append(word, times);
  $("words").insertBefore(item, $("words").querySelector(".partial"));
  while ($("words").children.length > 200) $("words").firstChild.remove();
}

function partial(text) {
  let item = $("words").querySelector(".partial");
  if (!text) return item && item.remove();
  if (!item) {
    item = document.createElement("li");
    item.className = "partial";
    $("words").append(item);
  }
  item.textContent = text;
}

async function begin() {
  const card = cards.get($("model").value);
  $("words").replaceChildren();
  strip.clear(card.labels);
  const wanted = { audio: hears(card) && { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false } };
  wanted.video = Boolean(sees(card)) && { width: 640, height: 480, frameRate: 25 };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    say(`The browser gives no microphone or camera: ${error.message}`, true);
    return;
  }
  const session = new Session(card);
  talk = { session, stream, context: null, timer: null };
  if (wanted.audio) {
    const context = new AudioContext({ sampleRate: RATE });
    talk.context = context;
    await context.audioWorklet.addModule("live/capture.js");
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, processorOptions: { samples: RATE * 0.08 } });
    let heard = 0;
    capture.port.onmessage = ({ data }) => {
      heard += data.samples.length / RATE;
      $("clock").value = `${heard.toFixed(1)} s`;
      $("level").value = Math.max(data.level, -60);
      session.chunk("audio", data.samples.buffer, 0);
    };
    context.createMediaStreamSource(stream).connect(capture);
  }
  $("see").hidden = !wanted.video;
  $("hear").hidden = !wanted.audio;
  if (wanted.video) {
    const picture = $("picture");
    picture.srcObject = stream;
    await picture.play();
    const canvas = document.createElement("canvas");
    canvas.width = 480;
    canvas.height = 360;
    const began = performance.now();
    const every = sees(card) === "image" ? 500 : FRAME_MS;
    talk.timer = setInterval(() => {
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      const seconds = (performance.now() - began) / 1000;
      canvas.toBlob(async (blob) => blob && session.chunk(sees(card), await blob.arrayBuffer(), seconds), "image/jpeg", 0.85);
    }, every);
  }
  $("start").textContent = "Stop";
}

function stop(said = "Stopped.") {
  if (!talk) return;
  talk.session.end();
  clearInterval(talk.timer);
  if (talk.context) talk.context.close();
  for (const track of talk.stream.getTracks()) track.stop();
  talk = null;
  $("start").textContent = "Start";
  if (said) say(said);
}

$("start").onclick = () => (talk ? stop() : begin());

const { data } = await (await fetch("v1/models")).json();
for (const card of data.filter((card) => card.streaming)) {
  cards.set(card.id, card);
  $("model").append(new Option(card.id, card.id));
}
$("start").disabled = !cards.size;
say(cards.size ? "Ready." : "No model here follows a stream.", !cards.size);
