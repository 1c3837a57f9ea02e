// Runs where the browser makes sound: gathers chunks of s16le samples, and hands them to the page.
class Capture extends AudioWorkletProcessor {
  constructor(options) {
    super();
    this.chunk = new Int16Array(options.processorOptions.samples);
    this.filled = 0;
    this.power = 0;
  }

  process([[samples]]) {
    if (!samples) return true;
    for (const sample of samples) {
      this.power += sample * sample;
      this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      if (this.filled === this.chunk.length) {
        const level = 10 * Math.log10(this.power / this.filled + 1e-9);
        this.port.postMessage({ samples: this.chunk, level }, [this.chunk.buffer]);
        this.chunk = new Int16Array(this.filled);
        this.filled = this.power = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
