import { creationTime } from '../domain/session.ts';
import { credentialsRefusal, limitRefusal, type SandboxContext } from './context.ts';
import { type Answer, errorAnswer, type HttpExchange, headerOf, jsonAnswer, sendAnswer } from './http.ts';
import type { SandboxSession } from './session-state.ts';
import type { ListedCall } from './spec.ts';

const MAX_WINDOW_MS = 7 * 24 * 60 * 60 * 1000;
const MAX_LIMIT = 100;
const MAX_OFFSET = 10;
const MAX_BODY_BYTES = 64 * 1024;

/** The request of a listing; times in unix milliseconds. */
interface Asked {
  readonly from: number;
  readonly to: number;
  readonly skip: number;
  readonly limit: number;
}

/** `POST /agentassist/api/public/analytics/account/{accountId}/v2/interactionDetails?offset=&limit=` */
export async function answerCalls(
  exchange: HttpExchange,
  context: SandboxContext,
  accountId: string,
  query: URLSearchParams,
): Promise<void> {
  const botId = headerOf(exchange, 'iid') ?? '';
  const refused =
    (await credentialsRefusal(exchange, context, botId, 'SmartAssist Analytics')) ?? limitRefusal(context);
  if (refused) return sendAnswer(exchange, refused);
  if (accountId !== context.accountId || headerOf(exchange, 'accountid') !== accountId) {
    return sendAnswer(exchange, errorAnswer(context.settings.errorEnvelope, 404, 'Account not found'));
  }
  const body = await readBody(exchange);
  const offset = wholeNumber(query.get('offset'));
  const limit = wholeNumber(query.get('limit'));
  const asked = {
    from: koreTime(body.startDate),
    to: koreTime(body.endDate),
    skip: offset * limit,
    limit,
  };
  const isValid = isWindow(asked) && offset <= MAX_OFFSET && limit <= MAX_LIMIT && body.timeZoneOffset === 0;
  if (!isValid) return sendAnswer(exchange, invalid(context));
  await sendPage(exchange, context, asked, (rows, total) => ({
    numResults: total,
    data: rows.map(({ sessionId, recordings, spec }, index) => ({
      sessionId,
      conversationId: `c-${index}`,
      channel: spec.listing?.channel ?? 'voice',
      ...voicemailFlag(spec.listing?.isVoicemail, recordings.length > 0),
      sessionStartTime: new Date(startOf(sessionId, context)).toISOString(),
      ...callDetails(spec.listing?.call),
    })),
  }));
}

/** `POST /api/public/bot/{botId}/getSessions` */
export async function answerSessions(
  exchange: HttpExchange,
  context: SandboxContext,
  botId: string,
): Promise<void> {
  const refused =
    (await credentialsRefusal(exchange, context, botId, 'Bot Sessions')) ?? limitRefusal(context);
  if (refused) return sendAnswer(exchange, refused);
  const body = await readBody(exchange);
  const asked = {
    from: isoTime(body.dateFrom),
    to: isoTime(body.dateTo),
    skip: wholeNumber(body.skip),
    limit: wholeNumber(body.limit),
  };
  const isValid = isWindow(asked) && asked.to - asked.from < MAX_WINDOW_MS && asked.limit <= MAX_LIMIT;
  if (!isValid) return sendAnswer(exchange, invalid(context));
  await sendPage(exchange, context, asked, (rows, total) => ({
    total,
    moreAvailable: asked.skip + rows.length < total,
    sessions: rows.map(({ sessionId, spec }) => ({
      sessionId,
      channel: spec.listing?.channel ?? 'korevg',
      start_time: new Date(startOf(sessionId, context)).toISOString(),
      sessionStatus: 'closed',
      ...sessionHistory(spec.listing?.call),
    })),
  }));
}

/** The members of call details besides the start of a call. */
function callDetails({ from, queue, direction, endedAt, tags }: ListedCall = {}) {
  return {
    ...(from !== undefined && { customerInfo: { phoneNumber: from } }),
    ...(queue !== undefined && { queues: [{ name: queue }] }),
    ...(direction !== undefined && { direction }),
    ...(endedAt && { sessionEndTime: endedAt.toISOString() }),
    ...(tags && { tags }),
  };
}

/** And what the sessions history does. */
function sessionHistory({ from, endedAt, tags }: ListedCall = {}) {
  return {
    ...(from !== undefined && { sessionTags: { callerNumber: from } }),
    ...(endedAt && { end_time: endedAt.toISOString() }),
    ...(tags && { tags }),
  };
}

/** Sends one page of the sessions that there are in this moment, the newest first. */
async function sendPage(
  exchange: HttpExchange,
  context: SandboxContext,
  { from, to, skip, limit }: Asked,
  toBody: (rows: readonly SandboxSession[], total: number) => unknown,
): Promise<void> {
  await context.settings.beforeListing?.(context.nextListing());
  const rows = [...context.sessions.values()]
    .map((session) => ({ session, startedAt: startOf(session.sessionId, context) }))
    .filter(({ startedAt }) => startedAt >= from && startedAt <= to)
    .sort((a, b) => b.startedAt - a.startedAt)
    .flatMap(({ session }) => new Array<SandboxSession>(session.spec.listing?.rows ?? 1).fill(session));
  sendAnswer(exchange, jsonAnswer(200, toBody(rows.slice(skip, skip + limit), rows.length)));
}

function startOf(sessionId: string, { sessions }: SandboxContext): number {
  const session = sessions.get(sessionId);
  const startedAt = session?.spec.listing?.startedAt ?? creationTime(sessionId);
  return startedAt?.getTime() ?? session?.addedAtMs ?? 0;
}

function voicemailFlag(
  flag: string | boolean | number | null | undefined,
  hasRecordings: boolean,
): { readonly isVoicemail?: string | boolean | number } {
  if (flag === null) return {};
  return { isVoicemail: flag ?? (hasRecordings ? 'YES' : 'NO') };
}

function invalid({ settings }: SandboxContext): Answer {
  return errorAnswer(settings.errorEnvelope, 412);
}

function isWindow({ from, to, skip, limit }: Asked): boolean {
  return from < to && to - from <= MAX_WINDOW_MS && skip >= 0 && limit >= 1;
}

/** A number that may come as text; not a number otherwise. */
function wholeNumber(value: unknown): number {
  return /^\d{1,9}$/.test(String(value)) ? Number(value) : Number.NaN;
}

/** `yyyy-mm-dd HH24:mm:ss` in UTC. */
function koreTime(value: unknown): number {
  const isTime = typeof value === 'string' && /^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}$/.test(value);
  return isTime ? Date.parse(`${value.replace(' ', 'T')}Z`) : Number.NaN;
}

/** `yyyy-mm-ddThh:mm:ss.msZ` */
function isoTime(value: unknown): number {
  const isTime = typeof value === 'string' && /^\d{4}-\d{2}-\d{2}T[\d:.]+Z$/.test(value);
  return isTime ? Date.parse(value) : Number.NaN;
}

/** The body as an object; an empty one where it is none. */
async function readBody({ request }: HttpExchange): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return {};
    chunks.push(chunk);
  }
  try {
    const body: unknown = JSON.parse(Buffer.concat(chunks).toString());
    return typeof body === 'object' && body !== null ? { ...body } : {};
  } catch {
    // No JSON at all is answered like any other request that makes no sense.
    return {};
  }
}
