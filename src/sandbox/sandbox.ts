import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { VoicemailError } from '../domain/errors.ts';
import { isValidId } from '../domain/session.ts';
import { type Call, CallLog, type RouteName } from './call-log.ts';
import { RateWindow, type SandboxContext } from './context.ts';
import { errorAnswer, type HttpExchange, sendAnswer } from './http.ts';
import { answerCalls, answerSessions } from './listing-routes.ts';
import { answerMedia } from './media-route.ts';
import { MEDIA_PREFIX, MediaUrls, recordingPathOf, STORAGE_PREFIX } from './media-urls.ts';
import { makeSessionId } from './seeded-values.ts';
import { autoSessionSpec, type SandboxRecording, SandboxSession } from './session-state.ts';
import type { SandboxOptions, SandboxSettings, SessionSpec } from './spec.ts';
import { TokenCheck } from './tokens.ts';
import { answerVoicemail } from './voicemail-route.ts';

export type { Call, RouteName } from './call-log.ts';
export type { SandboxRecording, SandboxSession } from './session-state.ts';
export type * from './spec.ts';

/** A running stand-in for the Kore API. `spec.ts` describes what it can do. */
export interface Sandbox {
  /** What `KORE_HOST` is to be set to: `http://127.0.0.1:41234`. */
  readonly url: string;
  readonly port: number;
  readonly botId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly accountId: string;
  readonly sessions: ReadonlyMap<string, SandboxSession>;
  /** All requests in the order of their arrival (the last 10,000 at least). */
  readonly calls: readonly Call[];
  /** What callers did that no caller should: credentials sent to media URLs, URLs changed on their way. */
  readonly violations: readonly string[];
  /**
   * Adds a session; returns its id.
   * @throws RangeError for an id that is no id, or is there already, and for audio that cannot be made.
   */
  addSession(spec?: SessionSpec): string;
  /**
   * The session of that id.
   * @throws RangeError if there is none.
   */
  session(sessionId: string): SandboxSession;
  /** Changes settings from the next request on. */
  configure(settings: Partial<SandboxSettings>): void;
  /** All media URLs issued so far are refused from now on, as after an administrator's revocation. */
  revokeUrls(): void;
  /**
   * Resolves as soon as the condition holds for the requests seen so far; it is tried again whenever a request
   * arrives, and whenever an answer makes progress or ends.
   *
   * @throws the signal's reason when aborted, an Error when the sandbox is closed before.
   */
  waitFor(holds: (calls: readonly Call[]) => boolean, signal?: AbortSignal): Promise<void>;
  /** Closes all connections and gives the port back. */
  close(): Promise<void>;
}

const DEFAULT_SETTINGS: SandboxSettings = {
  urlLifetimeSeconds: 300,
  refusedStatus: 403,
  rateLimit: undefined,
  enforceJti: true,
  scopes: ['SmartAssist Voicemail', 'SmartAssist Analytics', 'Bot Sessions'],
  signingSecret: undefined,
  outage: undefined,
  mediaOutage: undefined,
  errorEnvelope: 'errors',
  autoSessions: false,
  beforeListing: undefined,
};

const DEFAULT_KEEP_CALLS = 10_000;
/** Sessions made up on the spot are the same again when they are made up again; so only some are kept. */
const MAX_AUTO_SESSIONS = 1000;
/** Idle connections are kept longer than any caller does, so that none finds its connection just closed. */
const KEEP_ALIVE_TIMEOUT_MS = 120_000;

/** How one kind of request is recognised and answered. */
interface Route {
  readonly name: RouteName;
  readonly methods: readonly string[];
  readonly path: RegExp;
  /** @param parts the groups of {@link path}. */
  answer(
    exchange: HttpExchange,
    context: SandboxContext,
    parts: readonly string[],
    query: URLSearchParams,
  ): Promise<void>;
}

const ROUTES: readonly Route[] = [
  {
    name: 'voicemail',
    methods: ['GET'],
    path: /^\/api\/public\/bot\/([^/]+)\/voicemail$/,
    answer: (exchange, context, [botId = ''], query) => answerVoicemail(exchange, context, botId, query),
  },
  {
    name: 'calls',
    methods: ['POST'],
    path: /^\/agentassist\/api\/public\/analytics\/account\/([^/]+)\/v2\/interactionDetails$/,
    answer: (exchange, context, [accountId = ''], query) => answerCalls(exchange, context, accountId, query),
  },
  {
    name: 'sessions',
    methods: ['POST'],
    path: /^\/api\/public\/bot\/([^/]+)\/getSessions$/,
    answer: (exchange, context, [botId = '']) => answerSessions(exchange, context, botId),
  },
  {
    name: 'media',
    methods: ['GET', 'HEAD'],
    path: new RegExp(`^${MEDIA_PREFIX}`),
    answer: answerMedia,
  },
  {
    name: 'storage',
    methods: ['GET', 'HEAD'],
    path: new RegExp(`^${STORAGE_PREFIX}`),
    answer: answerMedia,
  },
];

/**
 * Starts a stand-in for the Kore API: the voicemail call and both listings with all their checks, and signed media URLs
 * that really expire. It is a second opinion of what Kore does, made from its documentation alone, and shares no code
 * with the client.
 *
 * @throws VoicemailError `INTERNAL` when it cannot listen.
 *
 * @example
 * const sandbox = await startSandbox({ autoSessions: true, log: console.error });
 * console.log(`KORE_HOST=${sandbox.url}`);
 * await sandbox.close();
 */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const sandbox = new RunningSandbox(options);
  await sandbox.listen();
  return sandbox;
}

class RunningSandbox implements Sandbox, SandboxContext {
  readonly botId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly accountId: string;
  readonly sessions = new Map<string, SandboxSession>();
  readonly violations: string[] = [];
  readonly urls: MediaUrls;
  readonly tokens = new TokenCheck();
  readonly callsTaken = new RateWindow();
  readonly now: () => number;
  readonly #options: SandboxOptions;
  readonly #host: string;
  readonly #log: (line: string) => void;
  readonly #callLog: CallLog;
  readonly #recordings = new Map<string, SandboxRecording>();
  readonly #autoSessionIds = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  readonly #server: Server;
  #settings: SandboxSettings;
  #port = 0;
  #listings = 0;

  constructor(options: SandboxOptions) {
    this.botId = options.botId ?? `st-${randomUUID()}`;
    this.clientId = options.clientId ?? `cs-${randomUUID()}`;
    this.clientSecret = options.clientSecret ?? randomBytes(32).toString('base64url');
    this.accountId = options.accountId ?? `o-${randomUUID()}`;
    this.now = options.now ?? Date.now;
    this.urls = new MediaUrls(this.now);
    this.#options = options;
    this.#host = options.host ?? '127.0.0.1';
    this.#log = options.log ?? (() => {});
    this.#callLog = new CallLog(options.keepCalls ?? DEFAULT_KEEP_CALLS);
    this.#settings = { ...DEFAULT_SETTINGS, ...onlySettings(options) };
    this.#server = createServer(
      { keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS, noDelay: true },
      (request, response) => {
        const answered = this.#receive(request, response).finally(() => this.#running.delete(answered));
        this.#running.add(answered);
      },
    );
  }

  get url(): string {
    return this.#origin(this.#host);
  }

  get port(): number {
    return this.#port;
  }

  get settings(): SandboxSettings {
    return this.#settings;
  }

  get calls(): readonly Call[] {
    return this.#callLog.calls;
  }

  async listen(): Promise<void> {
    try {
      this.#server.listen(this.#options.port ?? 0, this.#host);
      await once(this.#server, 'listening');
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const message = `the sandbox cannot listen (${reason}): choose another port or host`;
      throw new VoicemailError('INTERNAL', message, { cause, retryable: false });
    }
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  addSession(spec: SessionSpec = {}): string {
    const sessionId = spec.sessionId ?? makeSessionId(new Date(this.now()));
    if (!isValidId(sessionId)) throw new RangeError('a session id has 1 to 128 letters, digits, - and _');
    if (this.sessions.has(sessionId)) throw new RangeError(`session ${sessionId} is there already`);
    const session = new SandboxSession(sessionId, spec, this, this.now());
    this.sessions.set(sessionId, session);
    return sessionId;
  }

  adopt(recording: SandboxRecording): void {
    this.#recordings.set(recording.path, recording);
  }

  session(sessionId: string): SandboxSession {
    const session = this.sessions.get(sessionId);
    if (session === undefined) throw new RangeError(`session ${sessionId} was never added`);
    return session;
  }

  configure(settings: Partial<SandboxSettings>): void {
    this.#settings = { ...this.#settings, ...settings };
  }

  revokeUrls(): void {
    this.urls.revokeAll();
  }

  waitFor(holds: (calls: readonly Call[]) => boolean, signal?: AbortSignal): Promise<void> {
    return this.#callLog.waitFor(holds, signal);
  }

  async close(): Promise<void> {
    this.#callLog.close();
    if (this.#server.listening) {
      const closed = once(this.#server, 'close');
      this.#server.close();
      this.#server.closeAllConnections();
      await closed;
    }
    await Promise.all(this.#running);
  }

  mediaOrigin(): string {
    return this.#origin(this.#options.mediaHost ?? this.#host);
  }

  storageOrigin(): string {
    return this.#origin(this.#options.storageHost ?? this.#host);
  }

  findSession(sessionId: string): SandboxSession | undefined {
    const known = this.sessions.get(sessionId);
    if (known !== undefined || !this.#settings.autoSessions || !/^[0-9a-f]{24}$/i.test(sessionId))
      return known;
    this.addSession(autoSessionSpec(sessionId));
    this.#autoSessionIds.add(sessionId);
    if (this.#autoSessionIds.size > MAX_AUTO_SESSIONS) this.#forgetOldestAutoSession();
    return this.sessions.get(sessionId);
  }

  nextListing(): number {
    return this.#listings++;
  }

  findRecording(path: string): SandboxRecording | undefined {
    return this.#recordings.get(path);
  }

  violation(text: string): void {
    this.violations.push(text);
    this.#log(`violation: ${text}`);
  }

  #forgetOldestAutoSession(): void {
    const [oldest = ''] = this.#autoSessionIds;
    for (const recording of this.sessions.get(oldest)?.recordings ?? [])
      this.#recordings.delete(recording.path);
    this.sessions.delete(oldest);
    this.#autoSessionIds.delete(oldest);
  }

  #origin(host: string): string {
    return `http://${host.includes(':') ? `[${host}]` : host}:${this.#port}`;
  }

  /** Answers one request, and stays with it until its connection is free again or gone. */
  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = request.url ?? '/';
    const [path = '', queryText = ''] = target.split(/\?(.*)/s);
    const query = new URLSearchParams(queryText);
    const route = ROUTES.find((candidate) => candidate.path.test(path));
    const sessionId = query.get('sessionId') ?? this.#recordings.get(recordingPathOf(path))?.sessionId;
    const recording = this.#recordings.get(recordingPathOf(path))?.index;
    const range = request.headers.range;
    const { call, update } = this.#callLog.open({
      method: request.method ?? '',
      route: route?.name ?? 'other',
      ...(sessionId !== undefined && { sessionId }),
      ...(recording !== undefined && { recording }),
      ...(range !== undefined && { range }),
    });

    const gone = new AbortController();
    response.on('error', (error) => gone.abort(error));
    const closed = new Promise<void>((resolve) => response.once('close', resolve)).then(() => gone.abort());
    const exchange: HttpExchange = { request, response, target, update, signal: gone.signal };
    try {
      await this.#answer(exchange, route, path, query);
    } catch (error) {
      if (!gone.signal.aborted) this.#fail(exchange, error);
    }
    await closed;
    update({ state: response.writableFinished ? 'done' : 'broken' });
    const what = [call.method, call.route, call.sessionId, call.recording, call.range].filter(
      (part) => part !== undefined,
    );
    this.#log(`${what.join(' ')}: ${call.status ?? 'no answer'}, ${call.bytesSent} bytes, ${call.state}`);
  }

  async #answer(
    exchange: HttpExchange,
    route: Route | undefined,
    path: string,
    query: URLSearchParams,
  ): Promise<void> {
    const envelope = this.#settings.errorEnvelope;
    if (route === undefined) return sendAnswer(exchange, errorAnswer(envelope, 404));
    if (!route.methods.includes(exchange.request.method ?? '')) {
      return sendAnswer(exchange, errorAnswer(envelope, 405, undefined, { allow: route.methods.join(', ') }));
    }
    await route.answer(exchange, this, route.path.exec(path)?.slice(1) ?? [], query);
  }

  /** A fault of the sandbox itself, or of a function handed to it: said aloud, and never a crash. */
  #fail(exchange: HttpExchange, error: unknown): void {
    this.violation(
      `the sandbox failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
    if (exchange.response.headersSent) exchange.response.destroy();
    else sendAnswer(exchange, errorAnswer(this.#settings.errorEnvelope, 500));
  }
}

/** The settings among the options, without those that are not given. */
function onlySettings(options: SandboxOptions): Partial<SandboxSettings> {
  const names = Object.keys(DEFAULT_SETTINGS);
  return Object.fromEntries(
    Object.entries(options).filter(([name, value]) => names.includes(name) && value !== undefined),
  );
}
