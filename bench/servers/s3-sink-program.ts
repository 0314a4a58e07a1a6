import { obey, tellParent } from '../messages.ts';
import { startS3Sink } from './s3-sink.ts';

const sink = await startS3Sink();
tellParent({ kind: 'sink', url: sink.url });
obey({ requests: () => sink.requests(), stop: () => sink.close() });
