/* Presses "Continue" on the page of an action on many runs, as long as nobody has pressed "Stop". */
"use strict";

document.addEventListener("DOMContentLoaded", function () {
    const form = document.querySelector("form[data-canx-continue]");
    if (form === null) {
        return;
    }
    const timer = window.setTimeout(function () {
        form.submit();
    }, 200);
    const stop = document.querySelector("[data-canx-stop]");
    if (stop !== null) {
        stop.addEventListener("click", function () {
            window.clearTimeout(timer);
        });
    }
});
