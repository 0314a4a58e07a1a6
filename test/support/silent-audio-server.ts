import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

const HEADER_BYTES = 44;
const SILENCE = Buffer.alloc(64 * 1024);

/** A server of WAV recordings of any size, none of which it ever holds. */
export interface SilentAudioServer {
  /** Where a recording of so many bytes is. */
  urlOf(bytes: number): string;
  close(): Promise<void>;
}

/** Starts one on a free port of the loopback address. */
export async function startSilentAudioServer(): Promise<SilentAudioServer> {
  const server = createServer((request, response) => {
    const bytes = Number(request.url?.slice(1));
    response.writeHead(200, { 'content-type': 'audio/wav', 'content-length': bytes, etag: `"${bytes}"` });
    sendSilence(response, bytes).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    urlOf: (bytes) => `http://127.0.0.1:${port}/${bytes}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** As fast as the other side takes it. */
async function sendSilence(response: ServerResponse, bytes: number): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  response.write(wavHeader(bytes));
  for (let left = bytes - HEADER_BYTES; left > 0; left -= SILENCE.length) {
    const taken = response.write(SILENCE.subarray(0, left));
    if (!taken) await once(response, 'drain', { signal: gone.signal });
  }
  response.end();
}

/** 8 kHz, mono, 16 bit. */
function wavHeader(bytes: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write('RIFF', 0, 'latin1');
  header.writeUInt32LE(bytes - 8, 4);
  header.write('WAVEfmt ', 8, 'latin1');
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(8000, 24);
  header.writeUInt32LE(16_000, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36, 'latin1');
  header.writeUInt32LE(bytes - HEADER_BYTES, 40);
  return header;
}
