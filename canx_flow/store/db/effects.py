"""What a statement may do to the session of its connection: asked of every statement that user code sends.

Asked by `lent`. Told by a list of what is known to change nothing; whatever is not on it counts as a change,
which costs a reset of the session and nothing else.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

#: Nothing that outlives its transaction; what a reset undoes; what only a new session is free of.
NOTHING, RESET, CLOSE = 0, 1, 2

_LONGEST = 4000  # characters of a statement whose answer is kept
_KEPT = 2000

_NOISE = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | --[^\n]* | /\*(?!!).*?\*/""",
    re.VERBOSE | re.DOTALL,
)
#: What a statement begins with that changes rows at most.
_PLAIN = re.compile(
    r"""[\s(]* (?: SELECT | VALUES | WITH | UPDATE | DELETE | SAVEPOINT | RELEASE | ROLLBACK\s+TO | SHOW
      | (?: INSERT (?: \s+ OR \s+ \w+ | \s+ IGNORE )? | REPLACE ) \s+ INTO \s+
        (?: \w+ | \0 ) (?: \s* \. \s* (?: \w+ | \0 ) )* )
      (?![\w.])""",
    re.VERBOSE | re.IGNORECASE,
)
_FORGETS = re.compile(r"\s*(?:PREPARE|DEALLOCATE|DISCARD|COMMIT\s+PREPARED)\b", re.IGNORECASE)
_CALLED = re.compile(r"([\w.]+|\0)\s*\(")
_INTO = re.compile(r"\bINTO\b", re.IGNORECASE)
#: Words before a parenthesis: those of the grammar, and functions that leave nothing behind.
_HARMLESS = frozenset(
    """
    all and any array as between by case conflict cross distinct else end escape except exists filter from full group
    having ilike in inner intersect interval into is join key lateral left like limit not offset on or order outer over
    partition range recursive regexp returning right row rows select set similar some then to union update using values
    when where window with within materialized
    avg bit_and bit_or bit_xor bool_and bool_or count every group_concat max min sum string_agg array_agg json_agg
    jsonb_agg json_object_agg jsonb_object_agg json_arrayagg json_objectagg stddev_pop stddev_samp stddev var_pop
    var_samp variance corr covar_pop covar_samp regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope mode
    percentile_cont percentile_disc cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank
    rank row_number
    abs acos asin atan atan2 ceil ceiling cos cot degrees exp floor ln log mod pi pow power radians rand random round
    sign sin sqrt tan trunc truncate
    btrim char char_length character_length chr concat concat_ws crc32 hex instr left length lower lpad ltrim md5
    octet_length ord position regexp_like regexp_replace repeat replace reverse right rpad rtrim sha1 sha2 sha224 sha256
    sha384 sha512 space strpos substr substring substring_index translate trim upper format quote_literal unaccent
    similarity word_similarity strict_word_similarity trigram_similar encode decode split_part
    cast coalesce convert greatest if ifnull iif isnull least nullif typeof collate
    adddate age clock_timestamp current_date current_time current_timestamp curdate curtime date date_add date_format
    date_part date_sub date_trunc datetime day dayofmonth dayofweek dayofyear extract from_unixtime hour
    julianday justify_days justify_hours last_day localtimestamp make_date make_interval make_time make_timestamp
    makedate maketime microsecond minute month monthname now period_diff quarter sec_to_time second
    statement_timestamp str_to_date strftime subdate sysdate time timediff timestamp timestampadd timestampdiff
    timestamptz to_char to_date to_days to_number to_seconds to_timestamp transaction_timestamp unix_timestamp
    unixepoch utc_date utc_time utc_timestamp week weekday weekofyear year yearweek
    json json_array json_array_length json_build_array json_build_object json_contains json_contains_path json_each
    json_each_text json_extract json_insert json_keys json_length json_merge_patch json_object json_overlaps json_quote
    json_compact json_depth json_equals json_exists json_merge_preserve json_normalize json_query json_remove
    json_replace json_search json_set json_table json_type json_unquote json_valid json_value
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
    jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object_keys jsonb_path_exists
    jsonb_path_query jsonb_path_query_first jsonb_set jsonb_strip_nulls jsonb_typeof row_to_json to_json to_jsonb
    array_append array_cat array_length array_position array_remove array_replace array_to_string cardinality
    generate_series isempty lower_inc lower_inf string_to_array unnest upper_inc upper_inf
    gen_random_uuid last_insert_rowid nextval pg_notify uuid uuidv4 uuidv7 uuid_generate_v4
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared
    phraseto_tsquery plainto_tsquery setweight strip to_tsquery to_tsvector ts_headline ts_rank ts_rank_cd
    websearch_to_tsquery
    connection_id current_database current_schema current_setting current_user database pg_backend_pid
    pg_table_is_visible session_user to_regclass txid_current user version
    bit character decimal numeric signed time unsigned varbit varchar varying
    """.split()  # noqa: SIM905 - quoted one by one it would fill pages
)
#: Django's own functions in SQLite, and PostGIS's.
_HARMLESS_KINDS = ("django_", "st_")


class Effects:
    """What a statement may do to a session of one kind of database."""

    def __init__(self, odd: str, *, harmless: re.Pattern[str] | None = None) -> None:
        #: What begins a text of its own rules, or a second statement.
        self._odd = re.compile(odd)
        #: What changes nothing, besides rows.
        self._harmless = harmless
        self._known = lru_cache(_KEPT)(self._effect)

    def __call__(self, statement: Any) -> int:
        """Return the most that this statement may do: NOTHING, RESET or CLOSE."""
        if type(statement) is not str:
            return RESET  # A composed one of the driver's.
        return self._known(statement) if len(statement) <= _LONGEST else self._effect(statement)

    def _effect(self, statement: str) -> int:
        text = _NOISE.sub(_blank, statement).rstrip().removesuffix(";")
        if self._odd.search(text):
            return RESET
        if self._harmless is not None and self._harmless.fullmatch(text):
            return NOTHING
        begins = _PLAIN.match(text)
        if begins is None:
            return CLOSE if _FORGETS.match(text) else RESET
        rest = text[begins.end() :]
        if _INTO.search(rest):  # SELECT … INTO makes a table, or sets variables.
            return RESET
        return NOTHING if all(map(_is_harmless, _CALLED.findall(rest))) else RESET


def _blank(noise: re.Match[str]) -> str:
    """Keep that a quoted name was there: it may be a function's."""
    return "\0" if noise[0][0] in "'\"`" else " "


def _is_harmless(word: str) -> bool:
    word = word.lower()
    return word in _HARMLESS or word.startswith(_HARMLESS_KINDS) or word.isdigit()
