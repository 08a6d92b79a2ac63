/* canx_flow in Django's admin: copies commands, and follows the choice of a tab. Without it everything works,
   and no button is shown that needs it. */

"use strict";

(() => {
    const showButtons = () => {
        for (const button of document.querySelectorAll("button[data-canx-copy][hidden]")) {
            button.hidden = false;
        }
    };

    const copy = async (button) => {
        const label = button.textContent;
        await navigator.clipboard.writeText(button.dataset.canxCopy);
        button.textContent = button.dataset.canxCopied;
        setTimeout(() => { button.textContent = label; }, 2000);
    };

    document.addEventListener("DOMContentLoaded", () => {
        for (const choice of document.querySelectorAll(".canx-tabs select")) {
            choice.addEventListener("change", () => { choice.form.submit(); });
        }
        if (!navigator.clipboard) {
            return; // As on pages that are not served over HTTPS.
        }
        showButtons();
        // Of buttons that come later, too, with a part of the page that live.js has changed.
        document.addEventListener("canx:refreshed", showButtons);
        document.addEventListener("click", (event) => {
            const button = event.target.closest("button[data-canx-copy]");
            if (button !== null && button.textContent !== button.dataset.canxCopied) {
                copy(button);
            }
        });
    });
})();
