// Runs the page's script in a browser that is made up, plays one scene, and prints what came of it as JSON.
import fs from "node:fs";
import vm from "node:vm";

const [, , script, scene] = process.argv;

function element() {
  return {
    textContent: "", className: "", hidden: false, disabled: true, value: "voice-commands", children: [], style: {},
    append(...items) { this.children.push(...items); },
    get firstChild() { return this.children[0]; },
    replaceChildren() { this.children = []; },
    insertBefore(item) { this.children.push(item); },
    querySelector() { return null; },
    getContext() { return { clearRect() {}, drawImage() {} }; },
    async play() {},
    toBlob(take) { take({ arrayBuffer: async () => new ArrayBuffer(100) }); },
  };
}

const elements = {};
const sockets = [];
const tracks = [];
const nodes = [];

class Socket {
  static OPEN = 1;
  constructor(url) {
    this.url = String(url);
    this.readyState = 0;
    this.bufferedAmount = 0;
    this.sent = [];
    sockets.push(this);
  }
  send(data) {
    if (this.readyState !== Socket.OPEN) throw new Error(`sent in state ${this.readyState}`);
    this.sent.push(typeof data === "string" ? JSON.parse(data) : new DataView(data.buffer).getUint32(0, true));
  }
  close() { this.readyState = 3; }
  open() { this.readyState = Socket.OPEN; this.onopen(); }
  say(event) { this.onmessage({ data: JSON.stringify(event) }); }
  drop(code) { this.readyState = 3; this.onclose({ code }); }
}

class Context {
  constructor(options) {
    if (options && options.sampleRate) throw new Error("a context of another rate than the microphone's");
    this.sampleRate = 44100;
    this.audioWorklet = { addModule: async () => { if (scene === "no_worklet") throw new Error("network"); } };
  }
  async resume() {}
  close() {}
  createMediaStreamSource() {
    if (scene === "refused") throw new Error("no");
    return { connect() {} };
  }
}

class Node {
  constructor(context, name, options) {
    this.options = options.processorOptions;
    this.port = {};
    nodes.push(this);
  }
  hear() { this.port.onmessage({ data: { samples: new Int16Array(this.options.samples), level: -20 } }); }
}

const card = { id: "voice-commands", streaming: true, task: "classification", labels: ["a", "b"], streaming_modalities: ["audio"], modalities: { audio: {}, video: {} } };
const world = {
  document: { getElementById: (id) => (elements[id] ??= element()), createElement: element },
  navigator: {
    mediaDevices: {
      getUserMedia: async () => {
        await pause(5);
        const track = { stopped: false, stop() { this.stopped = true; } };
        tracks.push(track);
        return { getTracks: () => [track] };
      },
    },
  },
  fetch: async () => {
    if (scene === "unreachable") throw new Error("refused");
    return { json: async () => ({ data: [card] }) };
  },
  location: { href: "http://localhost/rnn/live" },
  WebSocket: Socket, AudioContext: Context, AudioWorkletNode: Node, Option: class {},
  URL, Uint8Array, Int16Array, DataView, performance, setInterval, clearInterval,
  // What waits a second here waits no longer than a test may.
  setTimeout: (work) => setTimeout(work, 1),
};

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const $ = (id) => elements[id];
const started = { type: "session.started", session: "s", model: "m", version: "1", next_sequence: 0 };
const begin = async () => {
  $("start").onclick();
  await pause(20);
};

const scenes = {
  unreachable: async () => {},
  refused: begin,
  twice: async () => {
    $("start").onclick();
    if (!$("start").disabled) $("start").onclick();
    await pause(20);
  },
  stopped_early: async () => {
    await begin();
    $("start").onclick();
    sockets[0].open();
  },
  draining: async () => {
    await begin();
    sockets[0].open();
    sockets[0].say(started);
    sockets[0].say({ type: "session.ended", reason: "draining", next_sequence: 0 });
    sockets[0].drop(1001);
  },
  never_opened: async () => {
    await begin();
    for (let tries = 0; tries < 20 && $("start").textContent === "Stop"; tries++) {
      sockets.at(-1).drop(1006);
      await pause(10);
    }
  },
  long_outage: async () => {
    await begin();
    sockets[0].open();
    sockets[0].say(started);
    nodes[0].hear();
    sockets[0].drop(1006);
    await pause(20);
    for (let count = 0; count < 1200; count++) nodes[0].hear();
    sockets[1].open();
    sockets[1].say({ ...started, next_sequence: 1 });
    nodes[0].hear();
  },
};

scenes.slow_line = async () => {
  card.streaming_modalities.push("video");
  await begin();
  sockets[0].open();
  sockets[0].say(started);
  await pause(150);
  const fast = sockets[0].sent.length;
  sockets[0].bufferedAmount = 2 ** 21;
  await pause(50);
  const slow = sockets[0].sent.length;
  await pause(150);
  nodes[0].hear();
  sockets[0].sent = [fast, sockets[0].sent.length - slow];
};
scenes.another = async () => {
  await begin();
  sockets[0].open();
  sockets[0].say(started);
  $("start").onclick();
  await pause(5);
  await begin();
  sockets[1].open();
  sockets[1].say({ ...started, model: "other" });
  const words = [{ word: "late", start: 0, end: 1, probability: 1 }];
  sockets[0].say({ type: "final", event: 1, words });
  sockets[0].say({ type: "error", detail: "an old error" });
  sockets[1].say({ type: "final", event: 1, words: [{ ...words[0], word: "new" }] });
};
scenes.no_worklet = begin;
scenes.stuck_line = async () => {
  await begin();
  sockets[0].open();
  sockets[0].say(started);
  sockets[0].bufferedAmount = 2 ** 27;
  nodes[0].hear();
};

const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(error.message));
const context = vm.createContext(world);
const page = new vm.SourceTextModule(fs.readFileSync(script, "utf8"), { context });
await page.link(() => {});
await page.evaluate();
await scenes[scene]();
await pause(20);
console.log(JSON.stringify({
  words: ($("words")?.children ?? []).map(({ children }) => children[0].textContent),
  status: $("status").textContent, button: $("start").textContent, disabled: $("start").disabled, unhandled,
  sockets: sockets.map(({ url, sent, readyState }) => ({ url, sent, readyState })), stopped: tracks.map(({ stopped }) => stopped),
}));
process.exit(0);
