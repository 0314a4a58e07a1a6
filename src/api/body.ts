import type { IncomingHttpHeaders } from 'node:http';
import { ApiError } from './problem.ts';
import type { ZodServer } from './validation.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The text of a body. @throws ApiError 400 when it is not UTF-8, which JSON has to be (RFC 8259). */
export function decodeBody(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new ApiError(400, 'INVALID_REQUEST', 'the body is not UTF-8', { cause });
  }
}

/** @throws ApiError 415 for a body that is compressed, which nobody here unpacks. */
export function refuseCompressed(headers: IncomingHttpHeaders): void {
  const encoding = headers['content-encoding'];
  if (encoding === undefined || /^\s*(identity)?\s*$/i.test(encoding)) return;
  throw new ApiError(415, 'UNSUPPORTED_MEDIA_TYPE', 'send the body uncompressed, without Content-Encoding', {
    headers: { 'accept-encoding': 'identity' },
  });
}

/** Text would let web pages post across sites; clients that announce JSON may still send nothing at all. */
export function acceptJsonOnly(app: ZodServer): void {
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    try {
      return parseJson(request, decodeBody(body), done);
    } catch (error) {
      return done(error as ApiError, undefined);
    }
  });
}

/** Hands the body on as it came, whatever it is called: see `request.body`. */
export function acceptRaw(app: ZodServer): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<Buffer>('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
}
