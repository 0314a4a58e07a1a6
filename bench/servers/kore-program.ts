import { makeAudio } from '../../src/sandbox/audio/audio.ts';
import { bufferSource } from '../../src/sandbox/audio/source.ts';
import { startSandbox } from '../../src/sandbox/sandbox.ts';
import { obey, tellParent } from '../messages.ts';

const RECORDING_BYTES = 480_000;

/** All sessions share one recording, held in memory, so that serving it costs next to nothing. */
function sharedRecording() {
  const wav = makeAudio('wav', 'bench', { bytes: RECORDING_BYTES });
  return bufferSource(wav.slice(0, wav.bytes), wav.contentType);
}

const sandbox = await startSandbox({
  urlLifetimeSeconds: 3600,
  keepCalls: 100,
  // One contestant sends the same token with all its calls.
  enforceJti: false,
});
const content = sharedRecording();
const sessionIds = Array.from({ length: Number(process.argv[2]) }, () =>
  sandbox.addSession({ recordings: [{ content }], transcription: 'Please call me back about the invoice.' }),
);
tellParent({
  kind: 'kore',
  url: sandbox.url,
  botId: sandbox.botId,
  clientId: sandbox.clientId,
  clientSecret: sandbox.clientSecret,
  recordingBytes: content.bytes,
  sessionIds,
});
obey({
  async stop() {
    await sandbox.close();
    if (sandbox.violations.length > 0) throw new Error(sandbox.violations.join('\n'));
  },
});
