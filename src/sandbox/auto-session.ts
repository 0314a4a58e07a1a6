import { seededRandom } from './seeded.ts';
import type { SessionSpec } from './spec.ts';

const TEXTS = [
  'Hi, this is a voicemail from the sandbox. Please call me back when you find the time.',
  'Good morning, I would like to move my appointment to Thursday afternoon. Thank you.',
  'Hello, my order has arrived, but one of the boxes is open. What should I do?',
  'This is a message for the billing department: the invoice came twice.',
  'Hi, just calling to say that everything works again. Great job!',
  'I have been waiting for the technician since ten. Is he on his way?',
] as const;

/** The voicemail of a session that nobody described: the same for the same id, mostly of one recording. */
export function autoSessionSpec(sessionId: string): SessionSpec {
  const random = seededRandom(`session ${sessionId}`);
  const count = random() < 0.2 ? 2 : 1;
  return {
    sessionId,
    recordings: Array.from({ length: count }, () => ({ seconds: 3 + Math.floor(random() * 10) })),
    transcription: TEXTS[Math.floor(random() * TEXTS.length)] ?? TEXTS[0],
  };
}
