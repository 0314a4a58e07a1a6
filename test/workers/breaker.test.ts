import { afterEach, describe, expect, it, vi } from 'vitest';
import { VoicemailError } from '../../src/domain/errors.ts';
import { createLogger } from '../../src/util/log.ts';
import { Breaker, type BreakerOptions } from '../../src/workers/breaker.ts';

const AWAY = new VoicemailError('KORE_UNAVAILABLE', 'Kore answered 503');
const TIMES = { confirmMs: 20, firstPauseMs: 5, longestPauseMs: 20, trustMs: 0 };

let running: Breaker[] = [];
afterEach(async () => {
  await Promise.all(running.map((breaker) => breaker.stop()));
  running = [];
});

/** A breaker of a dependency that a test switches off and on, with what happened to it. */
function create(options: Partial<BreakerOptions> = {}) {
  const state = { isAway: false, isHanging: false, probes: 0, underWay: 0, mostUnderWay: 0 };
  const events: string[] = [];
  const logged: string[] = [];
  const breaker = new Breaker({
    dependency: 'kore',
    async probe(signal) {
      state.probes += 1;
      state.underWay += 1;
      state.mostUnderWay = Math.max(state.mostUnderWay, state.underWay);
      try {
        if (state.isHanging) {
          await new Promise((_, reject) =>
            signal.addEventListener('abort', () => reject(new Error('ended'))),
          );
        }
        if (state.isAway) throw AWAY;
      } finally {
        state.underWay -= 1;
      }
    },
    onOpen: () => events.push('opened'),
    onClose: () => events.push('closed'),
    onCleared: () => events.push('cleared'),
    log: createLogger('info', (line) => logged.push(line)),
    times: TIMES,
    ...options,
  });
  running.push(breaker);
  const messages = () => logged.map((line) => JSON.parse(line) as Record<string, unknown>);
  return { breaker, state, events, messages };
}

describe('a breaker', () => {
  it('a breaker opens when a probe fails as well, gives the reason, and closes when one succeeds', async () => {
    const { breaker, state, events, messages } = create();
    state.isAway = true;
    const { opened } = breaker;
    breaker.suspect('a', AWAY);
    await vi.waitUntil(() => breaker.isOpen, { timeout: 60_000 });
    expect(breaker.view()).toEqual({
      dependency: 'kore',
      state: 'open',
      since: expect.any(String),
      code: 'KORE_UNAVAILABLE',
      reason: 'Kore answered 503',
    });
    expect(opened.reason).toBe(AWAY);
    await vi.waitUntil(() => state.probes > 3, { timeout: 60_000 });
    expect(breaker.isOpen).toBe(true);

    state.isAway = false;
    await vi.waitUntil(() => !breaker.isOpen, { timeout: 60_000 });
    expect(breaker.view()).toEqual({ dependency: 'kore', state: 'closed' });
    expect(breaker.opened.aborted).toBe(false);
    expect(events).toEqual(['opened', 'closed']);
    expect(messages().map(({ msg }) => msg)).toEqual([
      'a dependency is unavailable: nothing that needs it is begun until it works again',
      'a dependency works again',
    ]);
    expect(messages()[1]).toMatchObject({ dependency: 'kore', seconds: expect.any(Number) });
  });

  it('a breaker stays closed when a probe succeeds, as it was a fault of the session', async () => {
    const { breaker, events } = create();
    breaker.suspect('a', AWAY);
    await breaker.confirmed;
    expect(breaker.isOpen).toBe(false);
    await vi.waitUntil(() => events.length > 0, { timeout: 60_000 });
    expect(events).toEqual(['cleared']);
  });

  it('a breaker probes one at a time while probes are answered', async () => {
    const { breaker, state } = create();
    state.isAway = true;
    for (const session of ['a', 'b', 'c']) breaker.suspect(session, AWAY);
    await vi.waitUntil(() => state.probes > 5, { timeout: 60_000 });
    expect(state.mostUnderWay).toBe(1);
  });

  it('a breaker finds the end of an outage though earlier probes hang, and ends those', async () => {
    const { breaker, state } = create();
    state.isHanging = true;
    breaker.suspect('a', AWAY);
    await vi.waitUntil(() => breaker.isOpen && state.underWay > 2, { timeout: 60_000 });
    state.isHanging = false;
    await vi.waitUntil(() => !breaker.isOpen, { timeout: 60_000 });
    await vi.waitUntil(() => state.underWay === 0, { timeout: 60_000 });
  });

  it('a breaker opens after failures of several sessions in a row, where no probe can confirm one', async () => {
    const { breaker, state } = create({ failuresToOpen: 3 });
    state.isAway = true;
    for (const session of ['a', 'b', 'b', 'a', 'b']) breaker.suspect(session, AWAY);
    expect(breaker.isOpen).toBe(false);
    breaker.succeeded();
    breaker.suspect('c', AWAY);
    breaker.suspect('d', AWAY);
    expect(breaker.isOpen).toBe(false);
    breaker.suspect('e', AWAY);
    await vi.waitUntil(() => breaker.isOpen, { timeout: 60_000 });
  });

  it('a breaker logs a warning about what a person has to fix', async () => {
    const denied = new VoicemailError('ARCHIVE_DENIED', 'access is denied');
    const { breaker, messages } = create({
      probe: async () => {
        throw denied;
      },
    });
    breaker.suspect('a', denied);
    await vi.waitUntil(() => breaker.isOpen, { timeout: 60_000 });
    expect(messages()).toEqual([
      expect.objectContaining({
        level: 'error',
        msg: expect.stringContaining('NO SESSION IS BEING ARCHIVED'),
      }),
    ]);
  });

  it('a breaker ends its probing when it is stopped', async () => {
    const { breaker, state, events } = create();
    state.isHanging = true;
    breaker.suspect('a', AWAY);
    await vi.waitUntil(() => breaker.isOpen, { timeout: 60_000 });
    await breaker.stop();
    const { probes } = state;
    breaker.suspect('b', AWAY);
    await vi.waitUntil(() => state.underWay === 0, { timeout: 60_000 });
    expect(state.probes).toBe(probes);
    expect(events).toEqual(['opened']);
  });
});
