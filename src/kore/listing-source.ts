/** `calls`: call details v2, which tell voicemails; `sessions`: the sessions history, which does not. */
export const LISTING_SOURCES = ['calls', 'sessions'] as const;

/** Where sessions are listed. */
export type ListingSource = (typeof LISTING_SOURCES)[number];
