/* canx_flow in Django's admin: makes one part of a page like another, and changes no more than it must. What has the
   focus, what is selected and what is unfolded stays: nodes that are the same stay the same nodes. Used by live.js. */

"use strict";

(() => {
    const KEPT = new Set(["open", "hidden"]); // What a reader has changed, and `admin.js`.

    const isElement = (node) => node.nodeType === Node.ELEMENT_NODE;

    /* By what a node is known again: rows of a table have a key that is of no other row there. */
    const keyOf = (node) => isElement(node)
        ? node.id || node.getAttribute("data-canx-key") || node.getAttribute("aria-labelledby") || "" : "";

    const isSame = (one, other) => one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

    const isSelected = (node) => {
        const selection = document.getSelection();
        return selection !== null && selection.type === "Range" && selection.containsNode(node, true);
    };

    /* A row that somebody is at is left alone. */
    const isHeld = (row) => row.contains(document.activeElement)
        || row.querySelector("details[open], input:checked") !== null || isSelected(row);

    const isHeldRow = (node) => isElement(node) && node.matches("tr") && isHeld(node);

    const setAttributes = (old, fresh) => {
        for (const { name, value } of fresh.attributes) {
            if (!KEPT.has(name) && old.getAttribute(name) !== value) {
                old.setAttribute(name, value);
            }
        }
        for (const { name } of [...old.attributes]) {
            if (!KEPT.has(name) && !fresh.hasAttribute(name)) {
                old.removeAttribute(name);
            }
        }
    };

    const matching = (from, wanted) => {
        if (keyOf(wanted) === "") {
            return from !== null && isSame(from, wanted) ? from : null;
        }
        for (let node = from; node !== null; node = node.nextSibling) {
            if (isSame(node, wanted)) {
                return node;
            }
        }
        return null;
    };

    /* Whether a row that somebody is at stays where it was, before this place: it is not to be shown twice. */
    const isLeftBehind = (parent, place, wanted) => keyOf(wanted) !== "" && [...parent.children].some((row) =>
        isSame(row, wanted) && isHeldRow(row)
        && (place === null || (row.compareDocumentPosition(place) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0));

    /* Removes the nodes from one up to another. */
    const removeUpTo = (from, end) => {
        for (let node = from; node !== end;) {
            const next = node.nextSibling;
            if (!isHeldRow(node)) {
                node.remove();
            }
            node = next;
        }
    };

    const morphChildren = (old, fresh) => {
        let place = old.firstChild;
        for (const wanted of [...fresh.childNodes]) {
            const found = matching(place, wanted);
            if (found === null && isLeftBehind(old, place, wanted)) {
                continue;
            }
            if (found === null) {
                old.insertBefore(document.importNode(wanted, true), place);
            } else {
                removeUpTo(place, found);
                place = found.nextSibling;
                morph(found, wanted);
            }
        }
        removeUpTo(place, null);
    };

    const morph = (old, fresh) => {
        if (old.isEqualNode(fresh) || isHeldRow(old)) {
            return;
        }
        if (!isElement(old)) {
            if (!isSelected(old)) {
                old.nodeValue = fresh.nodeValue;
            }
            return;
        }
        setAttributes(old, fresh);
        morphChildren(old, fresh);
    };

    window.canxFlow = { isHeld, isSelected, morph };
})();
