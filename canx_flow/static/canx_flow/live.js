/* canx_flow in Django's admin: keeps a page as it is now. It asks for the page's own address anew, and changes what
   has changed: focus, selection, what is unfolded and how far the page is scrolled stay. Not while the tab is hidden,
   and ever more rarely while there is no answer. Without it there is a link that loads the page anew. */

"use strict";

(() => {
    const HEADER = "X-Canx-Live";
    const SLOWEST = 60_000;
    const PATIENCE = 30_000;
    const UNITS = [["days", 86400, "hours", 3600], ["hours", 3600, "minutes", 60], ["minutes", 60, "seconds", 1]];
    const { isHeld, isSelected, morph } = window.canxFlow;

    // -- lists ------------------------------------------------------------------------------------------

    const rowsOf = (root) => new Map([...root.querySelectorAll("#result_list tbody tr")].map((row) => [rowKey(row), row]));

    const runOf = (row) => row.querySelector("code.canx-id[title]");

    const rowKey = (row) => runOf(row)?.title || row.querySelector("a[href]")?.pathname || row.textContent;

    const least = (keys) => [...keys].reduce((one, other) => one < other ? one : other);

    /* Whether rows are runs, whose keys rise with time: the newest are shown first. */
    const areRuns = (rows) => [...rows.values()].every((row) => runOf(row) !== null);

    const morphCells = (row, fresh) => {
        if (!isHeld(row)) {
            [...fresh.children].forEach((cell, place) => { morph(row.children[place], cell); });
        }
    };

    const mark = (row, left, words) => {
        row.classList.toggle("canx-left", left);
        row.toggleAttribute("title", left);
        if (left) {
            row.title = words.gone;
        }
    };

    /* Changes the cells of the rows that are there. Rows neither come nor go under the reader's hand: it is counted
       how many would. A page that has more pages behind it may have lost its last rows to the next one, or gained
       some of that. */
    const updateList = (doc, words, hadMore, hasMore) => {
        const old = rowsOf(document);
        const fresh = rowsOf(doc);
        const ordered = areRuns(old) && areRuns(fresh);
        const pushedOff = (key) => ordered && hasMore && fresh.size > 0 && key < least(fresh.keys());
        const cameUp = (key) => ordered && hadMore && old.size > 0 && key < least(old.keys());
        let left = 0;
        for (const [key, row] of old) {
            if (fresh.has(key)) {
                morphCells(row, fresh.get(key));
            }
            const isLeft = !fresh.has(key) && !pushedOff(key);
            mark(row, isLeft, words);
            left += isLeft;
        }
        const isFirst = !(new URLSearchParams(location.search).get("p") > 1);
        const added = isFirst ? [...fresh.keys()].filter((key) => !old.has(key) && !cameUp(key)).length : 0;
        return [[added, words.new], [left, words.left]]
            .filter(([number]) => number > 0)
            .map(([number, [one, more]]) => (number === 1 ? one : more).replace("{number}", number.toLocaleString()))
            .join(", ");
    };

    // -- moments ----------------------------------------------------------------------------------------

    const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_all, name) => values[name]);

    const written = (number) => number.toLocaleString(document.documentElement.lang || undefined);

    const spanOf = (seconds, words, brief) => {
        for (const [name, size, smaller, part] of UNITS) {
            const parts = Math.round(seconds / part);
            const whole = Math.floor(parts / (size / part));
            const rest = parts % (size / part);
            if (whole > 0) {
                const two = rest > 0 && whole < 100 && !brief;
                return fill(words[two ? `${name}_${smaller}` : name], { [name]: written(whole), [smaller]: written(rest) });
            }
        }
        return fill(words.seconds, { seconds: written(Math.round(seconds)) });
    };

    const distance = (seconds, words, brief) => {
        if (Math.abs(seconds) < 1) {
            return words.now;
        }
        return fill(seconds > 0 ? words.in : words.ago, { span: spanOf(Math.abs(seconds), words, brief) });
    };

    const tick = (words, now) => {
        for (const moment of document.querySelectorAll("[data-canx-live] time[data-canx-tick]")) {
            const seconds = (Date.parse(moment.dateTime) - now) / 1000;
            const kind = moment.dataset.canxTick;
            const said = distance(seconds, words, kind.endsWith("brief"));
            const text = kind.startsWith("due") && seconds <= -1 ? fill(words.late, { when: said }) : said;
            if (moment.textContent !== text && !isSelected(moment)) {
                moment.textContent = text;
            }
        }
    };

    // -- what is said aloud ------------------------------------------------------------------------------

    /* What an element says apart from its numbers and moments, which change all the time. */
    const essence = (element) => {
        const copy = element.cloneNode(true);
        copy.querySelectorAll("time, button").forEach((part) => { part.remove(); });
        return copy.textContent.replace(/[\d.,]+/g, "").replace(/\s+/g, " ").trim();
    };

    const essences = () => [...document.querySelectorAll("[data-canx-said]")].map((element) => [element, essence(element)]);

    // -- one page ------------------------------------------------------------------------------------------

    const stored = {
        get: () => {
            try {
                return localStorage.getItem("canx_flow.live");
            } catch {
                return null; // The browser keeps nothing for this site.
            }
        },
        set: (value) => {
            try {
                localStorage.setItem("canx_flow.live", value);
            } catch {
                // Then it is chosen for this page alone.
            }
        },
    };

    class Page {
        constructor(control) {
            this.control = control;
            this.words = JSON.parse(control.dataset.canxWords);
            this.toggle = control.querySelector("button");
            this.on = stored.get() !== "off";
            this.timer = 0;
            this.failures = 0;
            this.tag = "";
            this.asking = null;
            this.setClock(control);
        }

        begin() {
            this.toggle.hidden = false;
            this.toggle.addEventListener("click", () => { this.choose(!this.on); });
            document.addEventListener("visibilitychange", () => { this.goOn(); });
            window.addEventListener("pageshow", (event) => { if (event.persisted) { this.goOn(); } });
            setInterval(() => { if (!document.hidden) { tick(this.words.moments, this.now()); } }, 1000);
            this.show();
            this.wait(this.every());
        }

        now() { return Date.now() + this.ahead; }

        setClock(control) { this.ahead = Date.parse(control.dataset.canxNow) - Date.now(); }

        every() { return 1000 * Number(this.control.dataset.canxEvery); }

        choose(on) {
            this.on = on;
            stored.set(on ? "on" : "off");
            this.show();
            this.goOn();
        }

        show() {
            this.toggle.setAttribute("aria-pressed", String(this.on));
            this.toggle.title = this.on ? this.words.turnOff : this.words.turnOn;
        }

        say(text) { this.control.querySelector("[role=status]").textContent = text; }

        note(text) { this.control.querySelector(".canx-live-note").textContent = text; }

        wait(milliseconds) {
            clearTimeout(this.timer);
            if (this.on && !document.hidden) {
                this.timer = setTimeout(() => { this.ask(); }, milliseconds);
            }
        }

        /* Asks at once where it may, and stops where it may not. */
        goOn() {
            const asking = this.asking;
            this.asking = null; // So that its end is no failure.
            asking?.abort();
            this.wait(0);
        }

        async ask() {
            const asking = new AbortController();
            this.asking = asking;
            const late = setTimeout(() => { asking.abort(); }, PATIENCE);
            try {
                await this.take(await fetch(this.control.dataset.canxUrl || location.href, {
                    headers: { [HEADER]: "1", ...(this.tag && { "If-None-Match": this.tag }) },
                    cache: "no-store", redirect: "manual", signal: asking.signal,
                }));
            } catch (error) {
                if (this.asking === asking) {
                    this.failed();
                }
            } finally {
                clearTimeout(late);
            }
        }

        async take(answer) {
            if (answer.status === 304) {
                this.answered();
            } else if (answer.status >= 500 || answer.status === 429) {
                this.failed();
            } else if (!answer.ok || !answer.headers.has(HEADER)) {
                this.end(); // Led to the login, or elsewhere.
            } else {
                const text = await answer.text();
                this.tag = answer.headers.get("ETag") || "";
                this.update(new DOMParser().parseFromString(text, "text/html"));
                this.answered();
            }
        }

        answered() {
            if (this.failures > 0) {
                this.failures = 0;
                this.note("");
                this.say(this.words.back);
            }
            this.wait(this.every());
        }

        failed() {
            if (document.hidden || !this.on) {
                return; // It was told to stop.
            }
            this.failures += 1;
            const delay = Math.min(this.every() * 2 ** this.failures, SLOWEST);
            const said = fill(this.words.away, { seconds: written(Math.round(delay / 1000)) });
            this.note(said);
            if (this.failures === 1) {
                this.say(said);
            }
            this.wait(delay);
        }

        end() {
            this.on = false;
            this.toggle.hidden = true;
            this.note(this.words.over);
            this.say(this.words.over);
        }

        update(doc) {
            const before = new Map(essences());
            for (const fresh of doc.querySelectorAll("[data-canx-live]")) {
                const old = document.querySelector(`[data-canx-live="${CSS.escape(fresh.dataset.canxLive)}"]`);
                if (old !== null) {
                    morph(old, fresh);
                }
            }
            const control = doc.querySelector("[data-canx-every]");
            if (this.control.dataset.canxListed) {
                // Of the rows on this page: what has come since it was loaded is not among them.
                this.offer(updateList(doc, this.words, "canxMore" in this.control.dataset, "canxMore" in control.dataset));
            }
            if (control !== null) {
                this.control.dataset.canxEvery = control.dataset.canxEvery;
                this.setClock(control);
            }
            document.title = doc.title || document.title;
            document.dispatchEvent(new Event("canx:refreshed"));
            tick(this.words.moments, this.now());
            const said = essences().filter(([element, text]) => text !== (before.get(element) ?? ""));
            if (said.length > 0) {
                this.say(said.map(([element]) => element.textContent.replace(/\s+/g, " ").trim()).join(" "));
            }
        }

        offer(told) {
            const link = this.control.querySelector(".canx-new");
            if (link.hidden && told !== "") {
                this.say(told);
            }
            link.hidden = told === "";
            link.textContent = `${told}: ${this.words.show}`;
        }
    }

    document.addEventListener("DOMContentLoaded", () => {
        const control = document.querySelector("[data-canx-every]");
        if (control !== null) {
            new Page(control).begin();
        }
    });
})();
