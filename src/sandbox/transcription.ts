import { seededUuid } from './seeded.ts';
import type { SandboxSession } from './session-state.ts';

/**
 * The messages of a transcript as Kore writes them, with all the fields that nobody asked for. As in Kore's
 * sample, `botId` and `sessionId` in them are not those that were asked for.
 */
export function transcriptionMessages(session: SandboxSession, createdAt: Date): Record<string, unknown>[] {
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
