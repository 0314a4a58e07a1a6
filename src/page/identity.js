import { createContext } from 'preact';
import { useContext } from 'preact/hooks';

/**
 * The user of the page.
 *
 * @typedef {'read' | 'listen' | 'enqueue' | 'operate' | 'erase'} Permission
 * @typedef {{ name: string, role: string, permissions: readonly Permission[], expiresAt?: string }} Who
 */

export const WhoContext = createContext(/** @type {Who | undefined} */ (undefined));

/** The user of the page; `undefined` until it is known. */
function useWho() {
  return useContext(WhoContext);
}

/**
 * Why the user may not do something; `undefined` where they may.
 *
 * @param {Permission} permission
 */
export function useRefusal(permission) {
  const who = useWho();
  if (who === undefined || who.permissions.includes(permission)) return undefined;
  return `Your role (${who.role || 'none'}) does not permit this: it takes the right to ${permission}.`;
}
