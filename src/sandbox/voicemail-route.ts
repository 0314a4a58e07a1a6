import { setTimeout as sleep } from 'node:timers/promises';
import { creationTime, isValidId } from '../domain/session.ts';
import type { SandboxContext } from './context.ts';
import {
  type Answer,
  dropConnection,
  errorAnswer,
  type HttpExchange,
  httpDateIn,
  jsonAnswer,
  limitAnswer,
  sendAnswer,
  untilGone,
} from './http.ts';
import { credentialsRefusal, limitRefusal } from './refusals.ts';
import { seededUuid } from './seeded.ts';
import type { SandboxSession } from './session-state.ts';
import type { MetadataFault } from './spec.ts';

const VOICEMAIL_SCOPE = 'SmartAssist Voicemail';
const DATE_RETRY_AFTER_MS = 2000;

/** `GET /api/public/bot/{botId}/voicemail?sessionId=&transcription=` */
export async function answerVoicemail(
  exchange: HttpExchange,
  context: SandboxContext,
  botId: string,
  query: URLSearchParams,
): Promise<void> {
  const refused =
    (await credentialsRefusal(exchange, context, botId, VOICEMAIL_SCOPE)) ?? limitRefusal(context);
  if (refused !== undefined) return sendAnswer(exchange, refused);

  const envelope = context.settings.errorEnvelope;
  const invalid = invalidArgument(query);
  if (invalid !== undefined) return sendAnswer(exchange, errorAnswer(envelope, 412, invalid));
  const session = context.findSession(query.get('sessionId') ?? '');
  if (session === undefined) return sendAnswer(exchange, errorAnswer(envelope, 404, 'Session not found'));

  const withTranscript = query.get('transcription') === 'true';
  const fault = context.settings.outage ?? session.faults.next();
  if (fault?.delayMs !== undefined) await sleep(fault.delayMs, undefined, { signal: exchange.signal });
  if (fault?.stall === true) return untilGone(exchange);
  if (fault?.dropConnection === true) return dropConnection(exchange);
  const faulty =
    fault &&
    faultyAnswer(fault, context, () => voicemailAnswer(session, context, withTranscript, session.looks));
  if (faulty !== undefined) return sendAnswer(exchange, faulty, fault?.breakAfterBytes);
  sendAnswer(exchange, jsonAnswer(200, voicemailAnswer(session, context, withTranscript, session.look())));
}

function invalidArgument(query: URLSearchParams): string | undefined {
  const sessionIds = query.getAll('sessionId');
  if (sessionIds.length !== 1 || !isValidId(sessionIds[0] ?? '')) return 'sessionId is missing or invalid';
  const transcription = query.get('transcription') ?? 'false';
  if (transcription !== 'true' && transcription !== 'false') return 'transcription must be true or false';
  return undefined;
}

/** What the fault makes of a look, or `undefined` if it leaves it alone. */
function faultyAnswer(
  fault: MetadataFault,
  { settings }: SandboxContext,
  describeAnyway: () => unknown,
): Answer | undefined {
  const { status, body, limit, retryAfter } = fault;
  if (limit !== undefined) {
    return limitAnswer(
      settings.errorEnvelope,
      limit,
      typeof retryAfter === 'number' ? retryAfter * 1000 : 1000,
    );
  }
  if (body !== undefined) {
    return {
      status: status ?? 200,
      headers: { 'content-type': fault.contentType ?? 'application/json' },
      body,
    };
  }
  if (status !== undefined) {
    return errorAnswer(settings.errorEnvelope, status, fault.message, retryAfterHeader(retryAfter));
  }
  if (fault.fillBytes !== undefined) {
    return jsonAnswer(200, { ...Object(describeAnyway()), filling: 'x'.repeat(fault.fillBytes) });
  }
  if (fault.cutJson !== true && fault.breakAfterBytes === undefined) return undefined;
  const good = jsonAnswer(200, describeAnyway());
  return fault.cutJson === true ? { ...good, body: good.body.slice(0, good.body.length / 2) } : good;
}

function retryAfterHeader(retryAfter: MetadataFault['retryAfter']): Record<string, string> {
  if (retryAfter === undefined) return {};
  return { 'retry-after': retryAfter === 'date' ? httpDateIn(DATE_RETRY_AFTER_MS) : String(retryAfter) };
}

/** The documented answer, with fresh media URLs. */
function voicemailAnswer(
  session: SandboxSession,
  context: SandboxContext,
  withTranscript: boolean,
  looks: number,
): unknown {
  const { spec, transcription } = session;
  const statuses = spec.statuses ?? ['success'];
  const status = statuses[Math.min(looks, statuses.length - 1)] ?? 'success';
  const key = spec.recordingsKey ?? 'voicemail recording';
  const built: Record<string, unknown> = { status };

  if (status !== 'success') built[key] = [];
  else if (looks >= (spec.notReadyLooks ?? 0)) built[key] = describeRecordings(session, context);
  else if (spec.notReadyAs !== 'absent') built[key] = spec.notReadyAs === 'null' ? null : [];

  if (withTranscript) {
    const ready =
      looks >= (transcription.afterLooks ?? 0) &&
      context.now() >= session.addedAtMs + (transcription.afterMs ?? 0);
    const createdAt = creationTime(session.sessionId) ?? new Date(session.addedAtMs);
    built.transcriptions = ready ? transcriptionMessages(session, createdAt) : [];
  }
  return spec.answer === undefined ? built : spec.answer(built);
}

function describeRecordings(session: SandboxSession, context: SandboxContext): unknown[] {
  return session.recordings.map((recording) => {
    const lifetimeSeconds = recording.nextLifetimeSeconds() ?? context.settings.urlLifetimeSeconds;
    return {
      fileName: recording.fileName,
      fileUrl:
        recording.spec.fileUrl ?? context.mediaOrigin() + context.urls.issue(recording.path, lifetimeSeconds),
    };
  });
}

/**
 * The messages of a transcript as Kore writes them, with all the fields that nobody asked for. As in Kore's
 * sample, `botId` and `sessionId` in them are not those that were asked for.
 */
function transcriptionMessages(session: SandboxSession, createdAt: Date): Record<string, unknown>[] {
  const { texts, language = 'en' } = session.transcription;
  return texts.map((text, index) => {
    const id = (kind: string) => seededUuid(`${kind} ${session.sessionId} ${index}`);
    const userId = `u-${seededUuid(`user ${session.sessionId}`)}`;
    const taskBotId = `st-${seededUuid(`task bot ${session.sessionId}`)}`;
    const at = new Date(createdAt.getTime() + index * 1000);
    return {
      _id: `ms-${id('message')}`,
      botId: taskBotId,
      type: 'incoming',
      status: 'received',
      channels: [
        {
          handle: { userId, taskBotId },
          from: userId,
          botInfo: { chatBot: 'SmartAssist', taskBotId },
          type: 'korevg',
          cc: ['', ''],
          bcc: ['', ''],
        },
      ],
      components: [{ _id: `cp-${id('component')}`, cT: 'text', data: { text }, thumbnails: [] }],
      createdBy: userId,
      createdOn: at.toISOString(),
      lmodifiedBy: userId,
      lmodifiedOn: at.toISOString(),
      sessionId: messageSessionId(session.sessionId),
      isBB: 0,
      isD: 0,
      ms: 1,
      chnl: 'korevg',
      lang: language,
      sT: 1,
      author: { id: userId, type: 'VOICEMAIL' },
      __lModifiedOn__: at.toISOString(),
      timestampValue: at.getTime(),
      __v: 0,
      resourceid: 'messagestore',
    };
  });
}

/** The id of another session, that the agent's side opened later. */
function messageSessionId(sessionId: string): string {
  return seededUuid(`message session ${sessionId}`).replaceAll('-', '').slice(0, 24);
}
