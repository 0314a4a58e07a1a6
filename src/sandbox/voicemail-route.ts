import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { creationTime, isValidId } from '../domain/session.ts';
import type { AudioSource } from './audio/source.ts';
import { credentialsRefusal, limitRefusal, type SandboxContext } from './context.ts';
import {
  type Answer,
  answerOverLimit,
  dropConnection,
  errorAnswer,
  type HttpExchange,
  jsonAnswer,
  PAGES,
  retryAfterHeader,
  sendAnswer,
  untilGone,
} from './http.ts';
import { seededUuid } from './seeded-values.ts';
import type { SandboxRecording, SandboxSession } from './session-state.ts';
import type { MetadataFault } from './spec.ts';

const VOICEMAIL_SCOPE = 'SmartAssist Voicemail';

/** Placeholder in an answer, replaced by JSON text; no other text is like it. */
const VERBATIM = `verbatim ${randomUUID()}`;

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
    faultyAnswer(fault, context, (filling) => {
      const built = voicemailAnswer(session, context, withTranscript, session.polls);
      return goodAnswer(session, filling === undefined ? built : { ...Object(built), filling });
    });
  if (faulty !== undefined) return sendAnswer(exchange, faulty, fault?.breakAfterBytes);
  sendAnswer(
    exchange,
    goodAnswer(session, voicemailAnswer(session, context, withTranscript, session.countPoll())),
  );
}

/** The answer as JSON, with the session's own JSON text in it where it has some. */
function goodAnswer({ spec }: SandboxSession, value: unknown): Answer {
  const answer = jsonAnswer(200, value);
  const { transcriptionsJson } = spec;
  if (transcriptionsJson === undefined) return answer;
  // A function, since `$` in a text would be read as a pattern.
  return { ...answer, body: answer.body.replace(JSON.stringify(VERBATIM), () => transcriptionsJson) };
}

function invalidArgument(query: URLSearchParams): string | undefined {
  const sessionIds = query.getAll('sessionId');
  if (sessionIds.length !== 1 || !isValidId(sessionIds[0] ?? '')) return 'sessionId is missing or invalid';
  const transcription = query.get('transcription') ?? 'false';
  if (transcription !== 'true' && transcription !== 'false') return 'transcription must be true or false';
  return undefined;
}

/** What the fault makes of a call, or `undefined` if it leaves it alone. */
function faultyAnswer(
  fault: MetadataFault,
  { settings }: SandboxContext,
  answerAnyway: (filling?: string) => Answer,
): Answer | undefined {
  const { status, limit, page } = fault;
  const retryAfter = retryAfterHeader(fault.retryAfter);
  if (limit !== undefined) {
    const answer = answerOverLimit(settings.errorEnvelope, limit, 1000);
    return { ...answer, headers: { ...answer.headers, ...retryAfter } };
  }
  const body = page === undefined ? fault.body : PAGES[page];
  if (body !== undefined) {
    const usualType = page === undefined ? 'application/json' : PAGE_TYPES[page];
    const headers = { 'content-type': fault.contentType ?? usualType, ...retryAfter };
    return { status: status ?? 200, headers, body };
  }
  if (status !== undefined) return errorAnswer(settings.errorEnvelope, status, fault.message, retryAfter);
  if (fault.fillBytes !== undefined) return answerAnyway('x'.repeat(fault.fillBytes));
  if (fault.cutJson !== true && fault.breakAfterBytes === undefined) return undefined;
  const good = answerAnyway();
  return fault.cutJson === true ? { ...good, body: good.body.slice(0, good.body.length / 2) } : good;
}

const PAGE_TYPES = { html: 'text/html', xml: 'application/xml', json: 'application/json' } as const;

/** The documented answer, with fresh media URLs. */
function voicemailAnswer(
  session: SandboxSession,
  context: SandboxContext,
  withTranscript: boolean,
  polls: number,
): unknown {
  const { spec } = session;
  const statuses = spec.statuses ?? ['success'];
  const status = statuses[Math.min(polls, statuses.length - 1)] ?? 'success';
  const key = spec.recordingsKey ?? 'voicemail recording';
  const built: Record<string, unknown> = { status };

  if (status !== 'success') built[key] = [];
  else if (polls >= (spec.notReadyPolls ?? 0)) built[key] = describeRecordings(session, context, polls);
  else if (spec.notReadyAs !== 'absent') built[key] = spec.notReadyAs === 'null' ? null : [];

  if (withTranscript) {
    const createdAt = creationTime(session.sessionId) ?? new Date(session.addedAtMs);
    const messages = transcriptionMessages(session, session.texts(polls, context.now()), createdAt);
    built.transcriptions = spec.transcriptionsJson === undefined ? messages : VERBATIM;
  }
  return spec.answer === undefined ? built : spec.answer(built);
}

/** The recordings that a call sees, in the form that the session wants. */
function describeRecordings(session: SandboxSession, context: SandboxContext, polls: number): unknown {
  const listed = session.recordings.filter(({ spec }) => polls >= (spec.afterPolls ?? 0));
  const form = session.spec.recordingsAs ?? 'objects';
  if (form === 'data-uris') return listed.map(({ audio }) => dataUriOf(audio));
  if (form === 'urls') return listed.map((recording) => fileUrlOf(recording, context));
  const objects = listed.map((recording) => {
    const fileUrl = fileUrlOf(recording, context);
    return { fileName: recording.nextFileName(), ...(fileUrl !== null && { fileUrl }) };
  });
  return form === 'object' ? objects[0] : objects;
}

function fileUrlOf(recording: SandboxRecording, context: SandboxContext): string | null {
  const lifetimeSeconds = recording.nextLifetimeSeconds() ?? context.settings.urlLifetimeSeconds;
  if (recording.spec.fileUrl !== undefined) return recording.spec.fileUrl;
  return context.mediaOrigin() + context.urls.issue(recording.nextPath(), lifetimeSeconds);
}

function dataUriOf(audio: AudioSource): string {
  return `data:${audio.contentType};base64,${audio.slice(0, audio.bytes).toString('base64')}`;
}

/**
 * The messages of a transcript as Kore writes them, with all their fields. As in Kore's
 * sample, `botId` and `sessionId` in them are not those of the request.
 */
function transcriptionMessages(
  session: SandboxSession,
  texts: readonly string[],
  createdAt: Date,
): Record<string, unknown>[] {
  const { language = 'en' } = session.transcription;
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
