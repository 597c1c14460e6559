// JSON-RPC over POST /rpc: one batch per question, and failures sorted by what a person has to do about them.
// Left out: when to ask (poller.js), what to ask (questions.js).

/** Why a whole batch has no answer. `kind`: gone, late, credentials, forbidden, refused, garbage. */
export class Failure extends Error {
  constructor(kind, text) {
    super(text);
    this.kind = kind;
  }
}

// The server has no lists that take this long; a longer wait only hides that it is gone.
const TIMEOUT_MS = 8000;

function failureOf(status, text) {
  const said = text.trim().slice(0, 200);
  if (status === 401) return new Failure("credentials", "The target asks for credentials.");
  if (status === 429) return new Failure("credentials", said || "Too many wrong credentials; wait a minute.");
  if (status === 403) return new Failure("forbidden", said || "The target does not permit this.");
  return new Failure("refused", `The target answered with HTTP status ${status}${said ? `: ${said}` : "."}`);
}

/** UTF-8 in base64, for Basic authentication. */
function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

export class RpcClient {
  #authorization = null;
  #lastId = 0;

  constructor(url = "rpc") {
    this.url = url;
  }

  /** For as long as the page is open; never stored. Without a user, the password is a bearer token. */
  signIn(user, password) {
    this.#authorization = user ? `Basic ${base64(`${user}:${password}`)}` : `Bearer ${password}`;
  }

  get signedIn() {
    return this.#authorization !== null;
  }

  /** `calls`: [[method, params]]. Resolves to [{result} or {error: {code, message}}] in the same order; rejects with a Failure. */
  async batch(calls) {
    const requests = calls.map(([method, params]) => ({ jsonrpc: "2.0", id: ++this.#lastId, method, ...(params ? { params } : {}) }));
    const text = await this.#post(JSON.stringify(requests));
    let replies;
    try {
      replies = JSON.parse(text);
    } catch {
      throw new Failure("garbage", "The answer is not JSON: is this address a catnap target?");
    }
    if (!Array.isArray(replies)) throw new Failure("refused", replies?.error?.message ?? "The target refused the batch.");
    const byId = new Map(replies.map((reply) => [reply.id, reply]));
    return requests.map((request) => byId.get(request.id) ?? { error: { code: 0, message: "no reply" } });
  }

  async #post(body) {
    const headers = { "Content-Type": "application/json" };
    if (this.#authorization) headers.Authorization = this.#authorization;
    try {
      const reply = await fetch(this.url, {
        method: "POST", headers, body, cache: "no-store", redirect: "error",
        credentials: this.#authorization ? "omit" : "same-origin", signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await reply.text();
      if (!reply.ok) throw failureOf(reply.status, text);
      return text;
    } catch (failure) {
      if (failure instanceof Failure) throw failure;
      if (failure.name === "TimeoutError") throw new Failure("late", `No answer within ${TIMEOUT_MS / 1000} s.`);
      throw new Failure("gone", "The target cannot be reached: it ended, or the way to it is cut.");
    }
  }
}
