// The page's own code: a session over a WebSocket, which goes on after a dropped connection without losing sound.
const CHUNK_SECONDS = 0.08;
const FRAME_MS = 40;
const SECONDS = 10;
const MOST_TRIES = 5;
// Chunks, of several seconds, and bytes beyond which the line or the server is too slow for pictures, or for anything.
const MOST_PENDING = 200;
const MOST_BYTES = 1 << 20;
const FAR_TOO_MANY_BYTES = 1 << 26;
const COLOURS = ["#1e88e5", "#e53935", "#43a047", "#fb8c00", "#8e24aa", "#00897b", "#6d4c41", "#d81b60", "#546e7a", "#c0ca33", "#5e35b1", "#f06292"];
const NUMBER = { audio: 0, video: 1, image: 2 };
const ENDS = {
  draining: "The server is stopping. Start again when it is back.",
  total: "The session was as long as sessions may be. Start another one.",
  idle: "Nothing came for so long that the session is over. Start another one.",
};

const $ = (id) => document.getElementById(id);
const cards = new Map();
let talk = null;

class Session {
  constructor(card, rate) {
    this.card = card;
    this.rate = rate;
    this.pending = [];
    this.sequence = 0;
    this.received = 0;
    this.session = null;
    this.over = false;
    this.last = null;
    this.tries = 0;
    this.connect();
  }

  connect() {
    const url = new URL(`v1/models/${this.card.id}/stream`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.ready = false;
    this.socket.onopen = () => {
      // Stopped while it connected: there is nothing to start any more.
      if (this.over) this.socket.close();
      else this.send(this.session ? { type: "session.start", session: this.session, received: this.received } : this.begin());
    };
    // One that was stopped may still have words to say, until another one begins.
    this.socket.onmessage = ({ data }) => (!talk || talk.session === this) && this.hear(JSON.parse(data));
    this.socket.onclose = ({ code }) => {
      this.ready = false;
      if (this.over) return;
      // Browsers do not tell a refusal from a lost connection; one that had no session yet was hardly lost so often.
      if (!this.session && ++this.tries >= MOST_TRIES) {
        stop("The server does not open a session to this page. A proxy in front must pass WebSockets and the header Host.", true);
      } else if (code === 1006 || code === 1005 || code === 1012) {
        say("The connection was lost: trying again…", true);
        setTimeout(() => this.over || this.connect(), 1000);
      } else {
        stop(this.last || `The server closed the session (${code}).`, code !== 1000);
      }
    };
  }

  begin() {
    const modalities = {};
    if (hears(this.card)) modalities.audio = { encoding: "pcm_s16le", sample_rate: this.rate };
    const seen = sees(this.card);
    if (seen) modalities[seen] = { encoding: "jpeg" };
    const options = this.card.labels ? { interim: 0.1, top_k: Math.min(this.card.labels.length, COLOURS.length) } : {};
    return { type: "session.start", modalities, options };
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  get late() {
    return this.pending.length > MOST_PENDING || this.socket.bufferedAmount > MOST_BYTES;
  }

  chunk(modality, payload, seconds) {
    if (this.over) return;
    if (this.socket.bufferedAmount > FAR_TOO_MANY_BYTES) return stop("The line is too slow for what is sent.", true);
    const data = new Uint8Array(16 + payload.byteLength);
    const header = new DataView(data.buffer);
    header.setUint32(0, this.sequence, true);
    header.setUint8(4, NUMBER[modality]);
    header.setFloat64(8, seconds, true);
    data.set(new Uint8Array(payload), 16);
    this.pending.push({ sequence: this.sequence++, data, header });
    // What a lost connection did not take is sent again; what is too old by then is given up.
    if (this.pending.length > 1000) this.pending.shift();
    if (this.ready) this.socket.send(data);
  }

  hear(event) {
    if (event.type === "session.started") {
      this.session = event.session;
      this.taken(event.next_sequence - 1);
      // Where some were given up, the others are numbered anew: the server takes nothing after a gap.
      this.sequence = event.next_sequence;
      for (const chunk of this.pending) {
        chunk.sequence = this.sequence++;
        chunk.header.setUint32(0, chunk.sequence, true);
        this.socket.send(chunk.data);
      }
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
    } else if (event.type === "session.ended") {
      this.last = ENDS[event.reason] || "The session is over.";
    } else if (event.type === "error") {
      this.last = `${event.detail} ${event.remedy || ""}`;
      say(this.last, true);
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

const hears = (card) => card.streaming_modalities.includes("audio");
const sees = (card) => card.streaming_modalities.find((name) => name !== "audio");

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
  const audio = hears(card) && { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const seen = sees(card);
  $("words").replaceChildren();
  strip.clear(card.labels);
  $("start").disabled = true;
  talk = { session: null, stream: null, context: null, timer: null };
  const denied = "The browser gives no microphone or camera";
  let failed = denied;
  try {
    talk.stream = await navigator.mediaDevices.getUserMedia({ audio, video: Boolean(seen) && { width: 640, height: 480, frameRate: 25 } });
    if (audio) {
      // At the device's own rate, for not every browser connects a microphone to a context of another one.
      talk.context = new AudioContext();
      failed = "The server does not answer";
      await talk.context.audioWorklet.addModule("live/capture.js");
      failed = denied;
      await talk.context.resume();
    }
    const session = new Session(card, talk.context && talk.context.sampleRate);
    talk.session = session;
    $("see").hidden = !seen;
    $("hear").hidden = !audio;
    if (audio) listen(session);
    if (seen) await watch(session, seen);
    if (talk) $("start").textContent = "Stop";
  } catch (error) {
    stop(`${failed}: ${error.message}`, true);
  } finally {
    $("start").disabled = false;
  }
}

function listen(session) {
  const { context, stream } = talk;
  const samples = Math.round(context.sampleRate * CHUNK_SECONDS);
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, processorOptions: { samples } });
  let heard = 0;
  capture.port.onmessage = ({ data }) => {
    heard += data.samples.length / context.sampleRate;
    $("clock").value = `${heard.toFixed(1)} s`;
    $("level").value = Math.max(data.level, -60);
    session.chunk("audio", data.samples.buffer, 0);
  };
  context.createMediaStreamSource(stream).connect(capture);
}

async function watch(session, seen) {
  const picture = $("picture");
  picture.srcObject = talk.stream;
  await picture.play();
  if (!talk) return;
  const canvas = document.createElement("canvas");
  canvas.width = 480;
  canvas.height = 360;
  const began = performance.now();
  let late = false;
  talk.timer = setInterval(() => {
    if (session.late !== late) {
      late = session.late;
      say(late ? "The line or the server is slow: pictures are left out." : "Pictures are sent again.", late);
    }
    if (late) return;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    const seconds = (performance.now() - began) / 1000;
    canvas.toBlob(async (blob) => blob && session.chunk(seen, await blob.arrayBuffer(), seconds), "image/jpeg", 0.85);
  }, seen === "image" ? 500 : FRAME_MS);
}

function stop(said = "Stopped.", error = false) {
  if (!talk) return;
  const { session, stream, context, timer } = talk;
  talk = null;
  if (session) session.end();
  clearInterval(timer);
  if (context) context.close();
  for (const track of stream ? stream.getTracks() : []) track.stop();
  $("start").textContent = "Start";
  say(said, error);
}

$("start").onclick = () => (talk ? stop() : begin());

try {
  const { data } = await (await fetch("v1/models")).json();
  for (const card of data.filter((card) => card.streaming)) {
    cards.set(card.id, card);
    $("model").append(new Option(card.id, card.id));
  }
  say(cards.size ? "Ready." : "No model here follows a stream.", !cards.size);
} catch (error) {
  say(`The server does not say which models it has: ${error.message}`, true);
}
$("start").disabled = !cards.size;
