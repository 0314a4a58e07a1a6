import { createCipheriv, createHash } from 'node:crypto';

/** Random choices that a seed decides. */
export interface Random {
  /** An integer from 0 to one below `limit`. */
  below(limit: number): number;
  /** Whether something happens that has this probability (0 to 1). */
  chance(probability: number): boolean;
  pick<Item>(items: readonly Item[]): Item;
  bytes(length: number): Buffer;
}

/** Choices from a stream cipher over zeros, which gives the same ones on every machine. */
export function createRandom(seed: string): Random {
  const key = createHash('sha256').update(seed).digest();
  const cipher = createCipheriv('chacha20', key, Buffer.alloc(16));
  const random: Random = {
    below: (limit) => Math.floor((random.bytes(6).readUIntLE(0, 6) / 2 ** 48) * limit),
    chance: (probability) => random.below(1_000_000) < probability * 1_000_000,
    pick(items) {
      const item = items[random.below(items.length)];
      if (item === undefined) throw new Error('there is nothing to pick from');
      return item;
    },
    bytes: (length) => cipher.update(Buffer.alloc(length)),
  };
  return random;
}
