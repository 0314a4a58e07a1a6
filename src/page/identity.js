import { createContext } from 'preact';
import { useContext } from 'preact/hooks';

/**
 * Who looks at the page.
 *
 * @typedef {'read' | 'listen' | 'enqueue' | 'operate' | 'erase'} Permission
 * @typedef {{ name: string, role: string, permissions: readonly Permission[], expiresAt?: string }} Who
 */

export const WhoContext = createContext(/** @type {Who | undefined} */ (undefined));

/** Who looks at the page; `undefined` until that is known. */
function useWho() {
  return useContext(WhoContext);
}

/**
 * Why somebody may not do something; `undefined` where they may.
 *
 * @param {Permission} permission
 */
export function useRefusal(permission) {
  const who = useWho();
  if (who === undefined || who.permissions.includes(permission)) return undefined;
  return `Your role (${who.role || 'none'}) does not permit this: it takes the right to ${permission}.`;
}
