/** A body's bytes, taken piece by piece as fast as the consumer asks for them. */
export interface ByteSource {
  /**
   * The next bytes, never none of them; `undefined` after the last.
   * @throws VoicemailError when the body breaks off.
   */
  read(): Promise<Buffer | undefined>;
  /** Lets go of the rest; calling it again, or after the end, does nothing. */
  discard(): void;
}

/** The same bytes, with some in front that were read from it before. */
export function withUnread(source: ByteSource, unread: readonly Buffer[]): ByteSource {
  const first = unread.values();
  return {
    async read() {
      const next = first.next();
      return next.done ? source.read() : next.value;
    },
    discard: () => source.discard(),
  };
}
