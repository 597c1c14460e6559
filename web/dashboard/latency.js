// Latency percentiles out of histograms: what the target counted between two answers, by bucket.
// Left out: drawing; means (rates.js).

export class LatencySource {
  constructor() {
    this.clear();
  }

  clear() {
    this.total = null;
    this.available = false;
  }

  breakOff() {
    this.total = null;
  }

  questions() {
    return [];
  }

  take() {
    return false;
  }

  conclude() {}

  device() {
    return null;
  }
}
