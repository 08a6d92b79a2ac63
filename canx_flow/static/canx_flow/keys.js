/* canx_flow in Django's admin: keys for those who would rather not reach for the mouse. Each does what a link or a button
   of the page does, so none of them acts on a run: the pages that they lead to ask. */

"use strict";

(() => {
    const TYPED = "input:not([type=checkbox], [type=radio], [type=submit], [type=button]), textarea, select, [contenteditable]";

    const isOn = () => {
        try {
            return localStorage.getItem("canx_flow.keys") !== "off";
        } catch {
            return true; // The browser keeps nothing for this site.
        }
    };

    const turn = (on) => {
        try {
            localStorage.setItem("canx_flow.keys", on ? "on" : "off");
        } catch {
            // Then the choice cannot be kept.
        }
    };

    const click = (selector) => document.querySelector(selector)?.click();

    const rows = () => [...document.querySelectorAll("#result_list tbody tr")];

    const rowAt = () => document.activeElement?.closest("#result_list tbody tr") ?? null;

    const move = (by) => {
        const all = rows();
        const at = all.indexOf(rowAt());
        const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
        // With the focus on its link, Enter opens it.
        all[next]?.querySelector("a[href]")?.focus();
    };

    const begin = (dialog) => {
        const button = document.querySelector(".canx-keys-button");
        const box = dialog.querySelector(".canx-keys-on");
        const open = () => {
            box.checked = isOn();
            dialog.showModal();
        };
        const keys = {
            "/": () => { document.querySelector("#searchbar")?.focus(); },
            "j": () => { move(1); },
            "k": () => { move(-1); },
            "x": () => { rowAt()?.querySelector("input.action-select")?.click(); },
            "n": () => { click("a.canx-older"); },
            "p": () => { click("a.canx-newer"); },
            "r": () => { click("a.canx-tool-retry"); },
            "c": () => { click("a.canx-tool-cancel"); },
            "l": () => { click("button.canx-toggle:not([hidden])"); },
            "?": open,
        };
        button.hidden = false;
        button.addEventListener("click", open);
        box.addEventListener("change", () => { turn(box.checked); });
        dialog.querySelector(".canx-keys-close").addEventListener("click", () => { dialog.close(); });
        document.addEventListener("keydown", (event) => {
            const isOther = event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.defaultPrevented;
            if (isOther || dialog.open || !Object.hasOwn(keys, event.key) || !isOn() || event.target.closest(TYPED)) {
                return;
            }
            event.preventDefault();
            event.stopPropagation(); // A theme may have keys of its own, such as the "?" of unfold.
            keys[event.key]();
        });
    };

    document.addEventListener("DOMContentLoaded", () => {
        const dialog = document.querySelector("dialog.canx-keys");
        if (dialog !== null) {
            begin(dialog);
        }
    });
})();
