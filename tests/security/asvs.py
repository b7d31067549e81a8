"""What authapi makes of the OWASP ASVS 5.0, level 1 and 2: one row for each requirement.

A row is `covered` by tests that talk HTTP, `not_applicable` for a reason, or `open`: then it says
what is missing. `test_asvs.py` holds this table against the standard and against the tests that
there are; `make asvs` counts it.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CHAPTERS = ("V2", "V3", "V4", "V6", "V7", "V8", "V9", "V10", "V11", "V13", "V14", "V16")
"""What the table is about; the other chapters are not about a service like this, or come later."""

Status = Literal["covered", "not_applicable", "open"]


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement, and how authapi stands to it."""

    id: str
    level: int
    status: Status
    shown_by: tuple[str, ...] = ()
    """Tests, as file::name or file::class::name."""
    why: str = ""
    """Why it does not apply, what is missing, or what is worth knowing."""

    @property
    def chapter(self) -> str:
        """Such as V2."""
        return self.id.partition(".")[0]


def required() -> Mapping[str, int]:
    """The ids of the standard that there must be a row for, with their levels."""
    path = Path(__file__).with_name("asvs5.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["req_id"]: int(row["L"])
            for row in csv.DictReader(file)
            if row["chapter_id"] in CHAPTERS and row["L"] in ("1", "2")
        }


def _covered(number: str, level: int, *shown_by: str, why: str = "") -> Row:
    return Row(f"V{number}", level, "covered", shown_by, why)


def _not_applicable(number: str, level: int, why: str) -> Row:
    return Row(f"V{number}", level, "not_applicable", why=why)


def _open(number: str, level: int, why: str) -> Row:
    return Row(f"V{number}", level, "open", why=why)


_NO_CODE_FLOW = (
    "There is no authorization endpoint: nobody is sent elsewhere to log in, and nothing comes "
    "back."
)
_NO_CLIENTS = "There are no registered clients: who holds a grant is whom it was given to."
_NO_OPENID = "authapi is no OpenID provider, and logs nobody in by the identity token of another."

_NO_FACTOR = (
    "What comes by mail recovers an account or confirms an address, and is no factor of a login."
)

_DOCS_PAGE = "tests/browser/test_docs_page.py"
_LOGS = "tests/cli/test_logs.py"
_ASVS_DOCUMENTS = "tests/security/test_asvs_documents.py"
_ASVS_SERVICE = "tests/security/test_asvs_service.py"
_ASVS_WIRE = "tests/security/test_asvs_wire.py"
_BROWSER = "tests/security/test_browser.py"
_CANARY = "tests/security/test_canary.py"
_GUESSING = "tests/security/test_guessing.py"
_MUTATIONS = "tests/security/test_mutations.py"
_OWNER_GETS_IN = "tests/security/test_owner_gets_in.py"
_ROWS_IDENTITY = "tests/security/test_rows_identity.py"
_ROWS_INPUT = "tests/security/test_rows_input.py"
_ROWS_RECOVERY = "tests/security/test_rows_recovery.py"
_ROWS_REFRESH = "tests/security/test_rows_refresh.py"
_ROWS_ADMINISTRATION = "tests/security/test_rows_administration.py"
_ROWS_SESSIONS = "tests/security/test_rows_sessions.py"
_ROWS_TOKENS = "tests/security/test_rows_tokens.py"
_AUDIT = "tests/services/test_audit.py"
_MAXIMA = "tests/services/test_maxima.py"
_PASSWORD_POLICY = "tests/services/test_password_policy.py"
_STRATEGY_BASIC = "tests/strategies/test_basic.py"
_STRATEGY_JWT = "tests/strategies/test_jwt.py"
_STRATEGY_SESSION = "tests/strategies/test_session.py"
_PRODUCTION = "tests/test_production.py"
_ROUTES_ADDRESSES = "tests/web/routes/recovery/test_addresses.py"
_ROUTES_DOCS = "tests/web/routes/test_docs.py"
_ROUTES_HEALTH = "tests/web/routes/test_health.py"
_ROUTES_ADMIN_USERS = "tests/web/routes/admin/test_users.py"
_ROUTES_INTROSPECTION = "tests/web/routes/oauth/test_introspection.py"
_ROUTES_LOGIN = "tests/web/routes/test_login.py"
_ROUTES_ME = "tests/web/routes/test_me.py"
_ROUTES_PASSWORDS = "tests/web/routes/recovery/test_passwords.py"
_ROUTES_REGISTRATION = "tests/web/routes/test_registration.py"
_ROUTES_REVOCATION = "tests/web/routes/oauth/test_revocation.py"
_ROUTES_SESSIONS = "tests/web/routes/test_sessions.py"
_ROUTES_TOKENS = "tests/web/routes/test_tokens.py"
_ROUTES_WELL_KNOWN = "tests/web/routes/oauth/test_well_known.py"
_BREACHES = "tests/web/outgoing/test_breaches.py"
_CORS = "tests/web/edge/test_cors.py"
_ERRORS = "tests/web/test_errors.py"
_OPENAPI = "tests/web/test_openapi.py"
_REFUSED_ACCESS = "tests/web/test_refused_access.py"
_ROUTING = "tests/web/test_routing.py"
_WEBSOCKET = "tests/web/test_websocket.py"

TABLE: Sequence[Row] = (
    _covered(
        "2.1.1",
        1,
        _ASVS_DOCUMENTS + "::test_v2_1_1_every_field_says_what_it_takes",
    ),
    _covered(
        "2.1.2",
        2,
        _ASVS_DOCUMENTS + "::test_v2_1_2_rules_between_fields_have_documented_codes",
    ),
    _covered(
        "2.1.3",
        2,
        _ASVS_DOCUMENTS + "::test_v2_1_3_limits_are_documented_and_hold",
    ),
    _covered(
        "2.2.1",
        1,
        _ROWS_INPUT + "::test_row_58_no_json_is_a_server_error",
        _MUTATIONS + "::test_no_mutated_body_is_a_crash",
        _ROUTES_REGISTRATION + "::test_what_may_not_be_registered",
    ),
    _covered(
        "2.2.2",
        1,
        _ASVS_SERVICE + "::test_v2_2_2_the_service_checks_itself",
    ),
    _covered(
        "2.2.3",
        2,
        _ROWS_TOKENS + "::test_row_14_each_credential_is_good_for_its_own_use_only",
        _ROUTES_ME + "::test_what_no_new_password_can_be",
    ),
    _covered(
        "2.3.1",
        1,
        _ROUTES_ME + "::test_removing_asks_for_a_fresh_login",
        _ROUTES_TOKENS + "::test_making_one_asks_for_a_fresh_login",
        _ROUTES_ADDRESSES + "::test_an_address_changes_when_the_new_one_confirms",
        _ROUTES_ADDRESSES + "::test_who_has_not_confirmed_cannot_log_in",
    ),
    _covered(
        "2.3.2",
        2,
        _ROUTES_SESSIONS + "::test_data_has_4_kib_in_utf_8",
        _ROUTES_TOKENS + "::test_a_token_lasts_as_long_as_asked",
        _GUESSING + "::test_v2_4_1_the_eleventh_bad_login_in_a_minute_costs_no_hash",
    ),
    _covered(
        "2.3.3",
        2,
        _ROWS_SESSIONS + "::test_row_25_what_is_not_committed_has_not_happened",
        _AUDIT + "::test_an_event_that_cannot_be_written_undoes_the_change",
    ),
    _covered(
        "2.3.4",
        2,
        _ROWS_INPUT + "::test_row_65_of_many_registrations_one_wins",
        _ROUTES_ME + "::test_of_many_changes_to_one_state_one_wins",
        _ROWS_RECOVERY + "::test_row_38_a_link_works_once_and_the_newest_alone",
    ),
    _covered(
        "2.4.1",
        2,
        _GUESSING + "::test_v2_4_1_the_eleventh_bad_login_in_a_minute_costs_no_hash",
        _GUESSING + "::test_registrations_are_limited_before_they_cost_a_hash",
        _MAXIMA + "::test_v7_1_2_one_login_more_ends_that_unused_for_the_longest",
        _MAXIMA + "::test_one_token_more_is_refused",
    ),
    _covered(
        "3.2.1",
        1,
        _ASVS_SERVICE + "::test_v3_2_2_html_in_a_name_stays_text",
        _BROWSER + "::test_v3_2_1_an_answer_is_not_loaded_into_a_page",
    ),
    _covered(
        "3.2.2",
        1,
        _ASVS_SERVICE + "::test_v3_2_2_html_in_a_name_stays_text",
    ),
    _covered(
        "3.3.1",
        1,
        _STRATEGY_SESSION + "::test_the_cookie_on_https",
        _ROUTES_LOGIN + "::test_over_https_the_cookie_is_bound_to_this_host",
    ),
    _covered(
        "3.3.2",
        2,
        _STRATEGY_SESSION + "::test_the_cookie_on_https",
        _ROWS_SESSIONS + "::test_row_20_lax_is_not_the_whole_defence",
    ),
    _covered(
        "3.3.3",
        2,
        _ROUTES_LOGIN + "::test_over_https_the_cookie_is_bound_to_this_host",
    ),
    _covered(
        "3.3.4",
        2,
        _ROUTES_LOGIN + "::test_the_secret_of_a_session_is_in_its_cookie_only",
    ),
    _covered(
        "3.4.1",
        1,
        _ASVS_SERVICE + "::test_v3_4_every_answer_has_the_headers",
    ),
    _covered(
        "3.4.2",
        1,
        _CORS + "::test_an_allowed_origin_is_echoed_exactly",
        _CORS + "::test_no_other_origin_gets_anything",
        _CORS + "::test_by_default_nobody_may",
    ),
    _covered(
        "3.4.3",
        2,
        _ASVS_SERVICE + "::test_v3_4_every_answer_has_the_headers",
        _ROUTES_DOCS + "::test_the_page_comes_with_a_policy_of_its_own",
    ),
    _covered(
        "3.4.4",
        2,
        _ASVS_SERVICE + "::test_v3_4_every_answer_has_the_headers",
    ),
    _covered(
        "3.4.5",
        2,
        _ASVS_SERVICE + "::test_v3_4_every_answer_has_the_headers",
    ),
    _covered(
        "3.4.6",
        2,
        _ASVS_SERVICE + "::test_v3_4_every_answer_has_the_headers",
        _ROUTES_DOCS + "::test_the_page_comes_with_a_policy_of_its_own",
    ),
    _covered(
        "3.5.1",
        1,
        _ROWS_SESSIONS + "::test_row_20_lax_is_not_the_whole_defence",
        _BROWSER + "::test_v3_5_1_a_foreign_page_changes_nothing_by_the_cookie",
        _BROWSER + "::test_v3_5_1_a_foreign_page_logs_nobody_in",
    ),
    _covered(
        "3.5.2",
        1,
        _ROWS_SESSIONS + "::test_row_19_json_under_another_type_is_not_read",
    ),
    _covered(
        "3.5.3",
        1,
        _BROWSER + "::test_v3_5_3_reading_never_changes_anything",
        _ROUTES_LOGIN + "::test_nothing_changes_by_reading",
        _ROWS_SESSIONS + "::test_row_20_lax_is_not_the_whole_defence",
    ),
    _covered(
        "3.5.4",
        2,
        _ROUTES_LOGIN + "::test_over_https_the_cookie_is_bound_to_this_host",
        why=(
            "The cookie is bound to one host; which applications share it is for the deployment to "
            "decide."
        ),
    ),
    _not_applicable(
        "3.5.5",
        2,
        (
            "No script of ours listens to messages: the docs page is the only one, and has no use "
            "for postMessage."
        ),
    ),
    _not_applicable(
        "3.7.1",
        2,
        "There is no plug-in technology; the docs page is HTML, CSS and JavaScript.",
    ),
    _covered(
        "3.7.2",
        2,
        _ROWS_IDENTITY + "::test_row_37_nothing_redirects",
        _ROWS_IDENTITY + "::test_row_36_nothing_is_built_from_the_host_header",
    ),
    _covered(
        "4.1.1",
        1,
        _ASVS_SERVICE + "::test_v3_4_every_answer_has_the_headers",
        _ROUTES_DOCS + "::test_the_files_of_the_page",
    ),
    _covered(
        "4.1.2",
        2,
        _ASVS_SERVICE + "::test_v4_1_2_plain_http_is_refused_and_not_redirected",
    ),
    _covered(
        "4.1.3",
        2,
        _GUESSING + "::test_row_50_the_peer_counts_whatever_its_headers_say",
        _ROWS_INPUT + "::test_row_63_whose_it_is_is_not_told_by_the_body",
    ),
    _covered(
        "4.2.1",
        2,
        _ASVS_WIRE + "::test_v4_2_1_a_message_has_one_end",
    ),
    _not_applicable(
        "4.3.1",
        2,
        "There is no GraphQL, and no other query language.",
    ),
    _not_applicable(
        "4.3.2",
        2,
        "There is no GraphQL.",
    ),
    _covered(
        "4.4.1",
        1,
        _ASVS_SERVICE + "::test_v4_4_1_a_websocket_in_the_clear_is_closed",
    ),
    _covered(
        "4.4.2",
        2,
        _WEBSOCKET + "::test_a_foreign_page_is_1008",
    ),
    _not_applicable(
        "4.4.3",
        2,
        "WebSockets use the same sessions as HTTP, so there are no dedicated tokens.",
    ),
    _not_applicable(
        "4.4.4",
        2,
        "WebSockets use the same sessions as HTTP, so there are no dedicated tokens.",
    ),
    _covered(
        "6.1.1",
        1,
        _ASVS_DOCUMENTS + "::test_v2_1_3_limits_are_documented_and_hold",
        _GUESSING + "::test_v6_1_1_nobody_is_locked_out_by_somebody_elses_guesses",
        _OWNER_GETS_IN + "::test_v6_1_1_the_owner_gets_in_from_where_they_were_before",
    ),
    _covered(
        "6.1.2",
        2,
        _ASVS_DOCUMENTS + "::test_v6_1_2_context_words_are_documented_and_refused",
    ),
    _covered(
        "6.1.3",
        2,
        _ASVS_DOCUMENTS + "::test_v6_1_3_each_way_in_has_the_documented_controls",
    ),
    _covered(
        "6.2.1",
        1,
        _ROUTES_REGISTRATION + "::test_the_shortest_password_is_a_setting",
        _ROUTES_REGISTRATION + "::test_length_is_counted_in_characters",
    ),
    _covered(
        "6.2.2",
        1,
        _ROUTES_ME + "::test_a_new_password_ends_everything_but_this_cookie",
    ),
    _covered(
        "6.2.3",
        1,
        _ROUTES_ME + "::test_a_wrong_current_password_changes_nothing",
        _PASSWORD_POLICY + "::test_a_change_wants_the_current_password_and_another_one",
    ),
    _covered(
        "6.2.4",
        1,
        _PASSWORD_POLICY + "::test_common_passwords_are_refused_at_register",
        _PASSWORD_POLICY + "::test_common_passwords_are_refused_at_a_change",
    ),
    _covered(
        "6.2.5",
        1,
        _PASSWORD_POLICY + "::test_good_passwords_are_accepted_and_work",
    ),
    _covered(
        "6.2.6",
        1,
        _PASSWORD_POLICY + "::test_password_fields_say_that_they_are_passwords",
        _DOCS_PAGE + "::test_by_cookie",
    ),
    _covered(
        "6.2.7",
        1,
        _ASVS_DOCUMENTS + "::test_v6_2_7_nothing_is_against_pasting",
        _DOCS_PAGE + "::test_by_cookie",
    ),
    _covered(
        "6.2.8",
        1,
        _PASSWORD_POLICY + "::test_a_password_is_compared_exactly_as_it_was_received",
        _ROWS_IDENTITY + "::test_row_44_no_part_of_a_password_is_ignored",
    ),
    _covered(
        "6.2.9",
        2,
        _PASSWORD_POLICY + "::test_good_passwords_are_accepted_and_work",
        _ROWS_IDENTITY + "::test_row_44_no_part_of_a_password_is_ignored",
    ),
    _covered(
        "6.2.10",
        2,
        _PASSWORD_POLICY + "::test_passwords_do_not_expire",
    ),
    _covered(
        "6.2.11",
        2,
        _PASSWORD_POLICY + "::test_the_own_address_and_context_words_count_for_nothing",
        _PASSWORD_POLICY + "::test_words_from_settings_count_for_nothing",
    ),
    _covered(
        "6.2.12",
        2,
        _BREACHES + "::test_a_breached_password_is_refused",
        _BREACHES + "::test_a_breached_password_is_refused_at_a_change",
        why=(
            "Where AUTHAPI_BREACHED_PASSWORDS_URL is set; without it, the list of common passwords "
            "is all there is."
        ),
    ),
    _covered(
        "6.3.1",
        1,
        _GUESSING + "::test_v6_3_1_one_account_guessed_at_from_many_networks",
        _GUESSING + "::test_v6_3_1_many_accounts_guessed_at_from_one_network",
    ),
    _covered(
        "6.3.2",
        1,
        _ASVS_SERVICE + "::test_v6_3_2_nobody_is_there_before_somebody_registers",
    ),
    _open(
        "6.3.3",
        2,
        (
            "A password is the only factor: multi-factor authentication comes with an issue of its "
            "own. Until then authapi does not reach level 2."
        ),
    ),
    _covered(
        "6.3.4",
        2,
        _ROUTING + "::test_who_is_let_in_is_what_the_document_says",
        _ASVS_DOCUMENTS + "::test_v6_1_3_each_way_in_has_the_documented_controls",
    ),
    _covered(
        "6.4.1",
        1,
        _ROUTES_PASSWORDS + "::test_an_invitation_is_accepted",
        _ROUTES_PASSWORDS + "::test_a_newer_invitation_ends_the_older",
        why="Nobody is given a password: an invitation chooses one, once, within its lifetime.",
    ),
    _covered(
        "6.4.2",
        1,
        _ASVS_SERVICE + "::test_v6_4_2_there_are_no_secret_questions",
    ),
    _covered(
        "6.4.3",
        2,
        _ROUTES_PASSWORDS + "::test_a_forgotten_password_is_replaced",
        _ROWS_RECOVERY + "::test_row_38_a_link_works_once_and_the_newest_alone",
        _ROWS_RECOVERY + "::test_row_43_no_answer_tells_who_has_an_account",
        why="There is no second factor yet that it could go around; it never logs in.",
    ),
    _not_applicable(
        "6.4.4",
        2,
        (
            "There is no second factor yet; it comes with the issue about multi-factor "
            "authentication."
        ),
    ),
    _covered(
        "6.5.1",
        2,
        _ROUTES_PASSWORDS + "::test_fifty_at_once_and_one_succeeds",
        _ROUTES_ADDRESSES + "::test_fifty_at_once_and_one_succeeds",
        why=_NO_FACTOR,
    ),
    _covered(
        "6.5.2",
        2,
        _ROUTES_PASSWORDS + "::test_a_secret_is_random_and_kept_as_a_hash",
        why=_NO_FACTOR,
    ),
    _covered(
        "6.5.3",
        2,
        _ROUTES_PASSWORDS + "::test_a_secret_is_random_and_kept_as_a_hash",
        why=_NO_FACTOR,
    ),
    _covered(
        "6.5.4",
        2,
        _ROUTES_PASSWORDS + "::test_a_secret_is_random_and_kept_as_a_hash",
        why=_NO_FACTOR,
    ),
    _not_applicable(
        "6.5.5",
        2,
        _NO_FACTOR + " Its lifetimes are settings: half an hour where it chooses a password.",
    ),
    _not_applicable(
        "6.6.1",
        2,
        "There is no telephony, and none is planned.",
    ),
    _covered(
        "6.6.2",
        2,
        _ROUTES_PASSWORDS + "::test_a_secret_is_for_one_purpose",
        _ROWS_RECOVERY + "::test_row_35_a_link_does_not_survive_a_change",
        _ROWS_RECOVERY + "::test_row_38_a_link_works_once_and_the_newest_alone",
        why=_NO_FACTOR,
    ),
    _not_applicable(
        "6.6.3",
        2,
        "There are no codes to type: a link has 256 bits.",
    ),
    _not_applicable(
        "6.8.1",
        2,
        "There is no federation yet: authapi trusts no other identity provider.",
    ),
    _not_applicable(
        "6.8.2",
        2,
        "There is no federation yet: authapi trusts no other identity provider.",
    ),
    _not_applicable(
        "6.8.3",
        2,
        "There is no SAML.",
    ),
    _not_applicable(
        "6.8.4",
        2,
        "There is no federation yet: authapi trusts no other identity provider.",
    ),
    _covered(
        "7.1.1",
        2,
        _ASVS_DOCUMENTS + "::test_v7_1_1_lifetimes_are_documented_and_hold",
    ),
    _covered(
        "7.1.2",
        2,
        _ASVS_DOCUMENTS + "::test_v2_1_3_limits_are_documented_and_hold",
        _MAXIMA + "::test_v7_1_2_one_login_more_ends_that_unused_for_the_longest",
        _MAXIMA + "::test_many_logins_at_once_leave_no_more",
    ),
    _not_applicable(
        "7.1.3",
        2,
        "There is no federation yet: authapi trusts no other identity provider.",
    ),
    _covered(
        "7.2.1",
        1,
        _STRATEGY_JWT + "::test_no_byte_of_it_can_change",
        _MUTATIONS + "::test_no_mutated_credential_header_is_good",
    ),
    _covered(
        "7.2.2",
        1,
        _ASVS_SERVICE + "::test_v7_2_3_session_tokens_are_random_and_unique",
        _STRATEGY_SESSION + "::TestSession::test_each_login_gives_another",
    ),
    _covered(
        "7.2.3",
        1,
        _ASVS_SERVICE + "::test_v7_2_3_session_tokens_are_random_and_unique",
    ),
    _covered(
        "7.2.4",
        1,
        _ROWS_SESSIONS + "::test_row_16_a_session_id_does_not_outlive_login_or_logout",
        _STRATEGY_SESSION + "::test_each_login_gives_a_new_secret_and_ends_the_old",
    ),
    _covered(
        "7.3.1",
        2,
        _STRATEGY_SESSION + "::test_it_ends_when_it_is_not_used",
    ),
    _covered(
        "7.3.2",
        2,
        _STRATEGY_SESSION + "::test_it_ends_however_much_it_is_used",
        _STRATEGY_JWT + "::test_it_ends_exactly_at_exp",
    ),
    _covered(
        "7.4.1",
        1,
        _ROUTES_LOGIN + "::test_logout_ends_what_login_began",
        _ROWS_SESSIONS + "::test_row_23_what_is_over_is_over_on_every_route",
    ),
    _covered(
        "7.4.2",
        1,
        _ROWS_SESSIONS + "::test_row_23_what_is_over_is_over_on_every_route",
        _STRATEGY_JWT + "::TestJWT::test_deactivation_ends_it",
        _ROWS_ADMINISTRATION + "::test_row_23_who_is_switched_off_by_a_superuser_is_out_everywhere",
    ),
    _covered(
        "7.4.3",
        2,
        _ROUTES_ME + "::test_a_new_password_ends_everything_but_this_cookie",
        _ROUTES_PASSWORDS + "::test_a_forgotten_password_is_replaced",
        why="They end in any case.",
    ),
    _covered(
        "7.4.4",
        2,
        _ASVS_SERVICE + "::test_v7_4_4_every_login_can_be_logged_out_of",
        _DOCS_PAGE + "::test_by_cookie",
    ),
    _covered(
        "7.4.5",
        2,
        _ASVS_SERVICE + "::test_v7_4_5_an_operator_ends_sessions",
        _ROUTES_ADMIN_USERS + "::test_every_credential_is_dead_before_it_is_answered",
    ),
    _covered(
        "7.5.1",
        2,
        _ROUTES_ME + "::test_removing_asks_for_a_fresh_login",
        _PASSWORD_POLICY + "::test_a_change_wants_the_current_password_and_another_one",
        _ROUTES_ADDRESSES + "::test_a_change_needs_the_password_or_a_fresh_login",
        why="There are no other factors yet.",
    ),
    _open(
        "7.5.2",
        2,
        (
            "Owners list and end their sessions, but ending them asks for no new proof of who they "
            "are, on purpose: whoever finds a thief's session must be able to end it at once. What "
            "makes credentials or removes the account does ask."
        ),
    ),
    _not_applicable(
        "7.6.1",
        2,
        "There is no federation yet: authapi trusts no other identity provider.",
    ),
    _covered(
        "7.6.2",
        2,
        _ROUTES_LOGIN + "::test_nothing_changes_by_reading",
        _ROWS_SESSIONS + "::test_row_20_lax_is_not_the_whole_defence",
    ),
    _covered(
        "8.1.1",
        1,
        _ASVS_DOCUMENTS + "::test_v8_1_1_who_may_call_what_is_documented",
    ),
    _covered(
        "8.1.2",
        2,
        _ASVS_DOCUMENTS + "::test_v8_1_2_which_fields_may_be_read_and_written_is_documented",
    ),
    _covered(
        "8.2.1",
        1,
        _OPENAPI + "::test_declared_security_is_what_anonymous_callers_meet",
        _ASVS_DOCUMENTS + "::test_v8_1_1_who_may_call_what_is_documented",
    ),
    _covered(
        "8.2.2",
        1,
        _ROWS_INPUT + "::test_row_57_somebody_elses_things_look_like_none",
        _ROUTES_SESSIONS + "::test_somebody_elses_session_looks_like_none",
    ),
    _covered(
        "8.2.3",
        2,
        _ROWS_INPUT + "::test_row_56_no_column_is_written_through_a_body",
        _ASVS_DOCUMENTS + "::test_v8_1_2_which_fields_may_be_read_and_written_is_documented",
    ),
    _covered(
        "8.3.1",
        1,
        _ASVS_SERVICE + "::test_v8_3_1_no_header_and_no_claim_gives_rights",
        _ROWS_ADMINISTRATION + "::test_v8_3_1_no_claim_and_no_header_makes_a_superuser",
    ),
    _not_applicable(
        "8.4.1",
        2,
        "There are no tenants.",
    ),
    _covered(
        "9.1.1",
        1,
        _STRATEGY_JWT + "::test_no_byte_of_it_can_change",
        _MUTATIONS + "::test_no_mutated_jwt_is_good",
    ),
    _covered(
        "9.1.2",
        1,
        _ROWS_TOKENS + "::test_row_03_the_header_does_not_choose_the_algorithm",
        _ROWS_TOKENS + "::test_row_04_no_algorithm_is_refused",
        _ROWS_TOKENS + "::test_row_01_hmac_by_the_public_key_is_refused",
    ),
    _covered(
        "9.1.3",
        1,
        _ROWS_TOKENS + "::test_row_06_a_key_in_the_header_is_refused",
        _ROWS_TOKENS + "::test_row_07_the_key_id_is_only_looked_up",
    ),
    _covered(
        "9.2.1",
        1,
        _STRATEGY_JWT + "::test_it_ends_exactly_at_exp",
        _ROWS_TOKENS + "::test_row_10_times_that_are_none_are_refused",
    ),
    _covered(
        "9.2.2",
        2,
        _ROWS_TOKENS + "::test_row_14_each_credential_is_good_for_its_own_use_only",
    ),
    _covered(
        "9.2.3",
        2,
        _ROWS_TOKENS + "::test_row_13_issuer_and_audience_are_compared_whole",
    ),
    _covered(
        "9.2.4",
        2,
        _STRATEGY_JWT + "::test_a_token_of_another_installation_is_refused",
    ),
    _covered(
        "10.1.1",
        2,
        _ROWS_REFRESH + "::test_v10_1_1_a_refresh_token_is_shown_once_and_nowhere_else",
        _ROWS_REFRESH + "::test_v10_1_1_a_refresh_token_opens_no_route",
    ),
    _not_applicable("10.1.2", 2, _NO_CODE_FLOW),
    _not_applicable("10.2.1", 2, _NO_CODE_FLOW),
    _not_applicable("10.2.2", 2, _NO_CODE_FLOW),
    _covered(
        "10.3.1",
        2,
        _ROWS_TOKENS + "::test_row_13_issuer_and_audience_are_compared_whole",
        "tests/verify/test_jwt.py::test_every_reason_has_one_answer",
    ),
    _covered(
        "10.3.2",
        2,
        _ROWS_REFRESH + "::test_a_narrowed_token_opens_less",
    ),
    _covered(
        "10.3.3",
        2,
        _ROWS_SESSIONS + "::test_row_23_what_is_over_is_over_on_every_route",
        why="`sub` is an id that is never given again; the database has no way to.",
    ),
    _covered(
        "10.3.4",
        2,
        "tests/web/routes/test_tokens.py::test_making_one_asks_for_a_fresh_login",
    ),
    _not_applicable("10.4.1", 1, _NO_CODE_FLOW),
    _not_applicable("10.4.2", 1, _NO_CODE_FLOW),
    _not_applicable("10.4.3", 1, _NO_CODE_FLOW),
    _covered(
        "10.4.4",
        1,
        _ROWS_REFRESH + "::test_v10_4_4_no_other_grant",
        _ROWS_REFRESH + "::test_v10_4_4_the_password_grant_goes_with_the_docs",
        why="The password grant is the docs page's own login, and off where that is off.",
    ),
    _covered(
        "10.4.5",
        1,
        _ROWS_REFRESH + "::test_row_27_a_replay_after_the_window_ends_the_family",
        _ROWS_REFRESH + "::test_row_27_fifty_in_the_window_get_one_successor",
    ),
    _not_applicable("10.4.6", 2, _NO_CODE_FLOW),
    _not_applicable("10.4.7", 2, _NO_CLIENTS),
    _covered(
        "10.4.8",
        2,
        _ROWS_REFRESH + "::test_v10_4_8_a_refresh_token_ends_at_its_latest",
        _ROWS_REFRESH + "::test_v10_4_8_and_when_it_is_not_used",
    ),
    _covered(
        "10.4.9",
        2,
        _ROUTES_REVOCATION + "::test_a_token_ends_with_all_of_its_session_and_nothing_else",
        _ROUTES_REVOCATION + "::test_v10_4_9_nobody_ends_the_tokens_of_others",
    ),
    _covered(
        "10.4.10",
        2,
        _ROUTES_INTROSPECTION + "::test_v10_4_10_strangers_may_not",
        _ROUTES_INTROSPECTION + "::test_what_is_dead_or_none_is_just_not_active",
        why="Clients are public. Whoever asks what a token stands for has a credential for that.",
    ),
    _not_applicable("10.4.11", 2, _NO_CLIENTS),
    _not_applicable("10.5.1", 2, _NO_OPENID),
    _not_applicable("10.5.2", 2, _NO_OPENID),
    _covered(
        "10.5.3",
        2,
        "tests/verify/test_metadata.py::test_metadata_of_another_issuer_stops_the_start",
        "tests/verify/test_metadata.py::test_metadata_that_becomes_that_of_another_is_an_outage",
        why="For services that trust an issuer (authapi.verify); they are no clients otherwise.",
    ),
    _not_applicable("10.5.4", 2, _NO_OPENID),
    _not_applicable("10.5.5", 2, _NO_OPENID),
    _not_applicable("10.6.1", 2, _NO_OPENID),
    _not_applicable("10.6.2", 2, _NO_OPENID),
    _not_applicable("10.7.1", 2, _NO_CLIENTS),
    _not_applicable("10.7.2", 2, _NO_CLIENTS),
    _not_applicable("10.7.3", 2, _NO_CLIENTS),
    _covered(
        "11.1.1",
        2,
        _ROWS_REFRESH + "::test_v11_1_1_a_key_is_published_signs_retires_and_is_gone",
        _ROWS_REFRESH + "::test_v11_1_1_an_ended_key_opens_nothing_from_that_moment_on",
        _ASVS_DOCUMENTS + "::test_v11_1_2_the_key_signs_access_tokens_and_nothing_else",
    ),
    _covered(
        "11.1.2",
        2,
        _ASVS_DOCUMENTS + "::test_v11_1_2_the_key_signs_access_tokens_and_nothing_else",
        _ASVS_DOCUMENTS + "::test_v11_1_2_the_inventory_of_cryptography_is_whole",
    ),
    _covered(
        "11.2.1",
        2,
        _STRATEGY_JWT + "::test_a_second_library_reads_it_from_the_published_keys",
    ),
    _covered(
        "11.2.2",
        2,
        _STRATEGY_BASIC + "::test_a_hash_that_is_too_weak_is_strengthened",
        _ROWS_REFRESH + "::test_v11_1_1_a_key_is_published_signs_retires_and_is_gone",
    ),
    _covered(
        "11.2.3",
        2,
        _ROUTES_WELL_KNOWN + "::test_the_keys_are_public_and_nothing_else",
        _ASVS_DOCUMENTS + "::test_v11_1_2_the_inventory_of_cryptography_is_whole",
    ),
    _covered(
        "11.3.1",
        1,
        _ROWS_REFRESH + "::test_v11_3_private_keys_are_sealed_and_a_changed_seal_opens_nothing",
    ),
    _covered(
        "11.3.2",
        1,
        _ROWS_REFRESH + "::test_v11_3_private_keys_are_sealed_and_a_changed_seal_opens_nothing",
    ),
    _covered(
        "11.3.3",
        2,
        _ROWS_REFRESH + "::test_v11_3_private_keys_are_sealed_and_a_changed_seal_opens_nothing",
    ),
    _covered(
        "11.4.1",
        1,
        _ASVS_DOCUMENTS + "::test_v11_1_2_the_inventory_of_cryptography_is_whole",
        why=(
            "SHA-1 names a range of the breach API, which is keyed by it; nothing rests on its "
            "strength."
        ),
    ),
    _covered(
        "11.4.2",
        2,
        _ASVS_SERVICE + "::test_v11_4_2_a_registered_password_is_argon2id",
    ),
    _covered(
        "11.4.3",
        2,
        _ASVS_DOCUMENTS + "::test_v11_1_2_the_inventory_of_cryptography_is_whole",
    ),
    _not_applicable(
        "11.4.4",
        2,
        (
            "No key is derived from a password: AUTHAPI_SECRET is random, and production refuses "
            "one that does not look so."
        ),
    ),
    _covered(
        "11.5.1",
        2,
        _ASVS_SERVICE + "::test_v11_5_1_an_id_opens_nothing",
        _ASVS_SERVICE + "::test_v7_2_3_session_tokens_are_random_and_unique",
    ),
    _covered(
        "11.6.1",
        2,
        _STRATEGY_JWT + "::test_a_second_library_reads_it_from_the_published_keys",
        _ROUTES_WELL_KNOWN + "::test_the_keys_are_public_and_nothing_else",
    ),
    _covered(
        "13.1.1",
        2,
        _ASVS_WIRE + "::test_v13_1_1_a_service_talks_to_whom_its_settings_name",
        _ASVS_DOCUMENTS + "::test_v13_1_1_whom_we_talk_to_is_documented",
        _ASVS_SERVICE + "::test_v13_2_4_no_request_makes_us_connect_to_anything",
    ),
    _open(
        "13.2.1",
        2,
        (
            "Database and Redis may be given a client certificate by their URLs, and production "
            "refuses default passwords; nothing asks for a certificate or a short-lived token "
            "instead of a password that stays."
        ),
    ),
    _covered(
        "13.2.2",
        2,
        _ASVS_SERVICE + "::test_v13_2_2_the_service_needs_no_rights_but_rows",
    ),
    _covered(
        "13.2.3",
        2,
        _PRODUCTION + "::test_v13_2_3_no_default_password_of_what_is_behind",
        _ROWS_IDENTITY + "::test_row_40_no_secret_is_known_and_no_cursor_is_trusted",
        _PRODUCTION + "::test_ghsa_hgx2_28f8_6g2r_no_default_or_short_secret",
    ),
    _covered(
        "13.2.4",
        2,
        _ASVS_SERVICE + "::test_v13_2_4_no_request_makes_us_connect_to_anything",
        _ASVS_DOCUMENTS + "::test_v13_1_1_whom_we_talk_to_is_documented",
    ),
    _not_applicable(
        "13.2.5",
        2,
        "The server in front of authapi is the deployment's; uvicorn fetches nothing.",
    ),
    _covered(
        "13.3.1",
        2,
        _ASVS_WIRE + "::test_v13_3_secrets_come_from_files_and_stay_in_them",
        why="Which vault writes these files is for the deployment to decide.",
    ),
    _covered(
        "13.3.2",
        2,
        _ASVS_WIRE + "::test_v13_3_secrets_come_from_files_and_stay_in_them",
        _PRODUCTION + "::test_it_starts_with_a_secret_file_of_its_own_and_shows_no_docs",
        _PRODUCTION + "::test_a_secret_file_that_others_read",
        _PRODUCTION + "::test_a_dotenv_with_secrets_that_others_read",
    ),
    _covered(
        "13.4.1",
        1,
        _ASVS_WIRE + "::test_v13_4_nothing_is_there_that_is_not_meant",
    ),
    _covered(
        "13.4.2",
        2,
        _ERRORS + "::test_what_nobody_foresaw_is_logged_and_not_told",
    ),
    _covered(
        "13.4.3",
        2,
        _ASVS_WIRE + "::test_v13_4_nothing_is_there_that_is_not_meant",
    ),
    _covered(
        "13.4.4",
        2,
        _ASVS_WIRE + "::test_v13_4_nothing_is_there_that_is_not_meant",
    ),
    _covered(
        "13.4.5",
        2,
        _ASVS_WIRE + "::test_v13_4_nothing_is_there_that_is_not_meant",
        _ROUTES_DOCS + "::test_off_means_off",
    ),
    _covered(
        "14.1.1",
        2,
        _ASVS_DOCUMENTS + "::test_v14_1_what_is_kept_is_classified",
    ),
    _covered(
        "14.1.2",
        2,
        _ASVS_DOCUMENTS + "::test_v14_1_what_is_kept_is_classified",
    ),
    _covered(
        "14.2.1",
        1,
        _ROUTES_ME + "::test_a_token_in_the_url_is_no_credential",
    ),
    _covered(
        "14.2.2",
        2,
        _ROWS_SESSIONS + "::test_row_26_no_answer_about_a_caller_is_cached",
    ),
    _covered(
        "14.2.3",
        2,
        _ROUTES_DOCS + "::test_nothing_on_the_page_is_inline_or_from_elsewhere",
        _ASVS_SERVICE + "::test_v13_2_4_no_request_makes_us_connect_to_anything",
        _BREACHES + "::test_only_five_digits_leave_and_padding_is_asked_for",
    ),
    _covered(
        "14.2.4",
        2,
        _ASVS_DOCUMENTS + "::test_v14_1_what_is_kept_is_classified",
    ),
    _covered(
        "14.3.1",
        1,
        _STRATEGY_SESSION + "::test_logout_clears_the_cookie",
    ),
    _open(
        "14.3.2",
        2,
        (
            "Everything is `no-store` but GET and PATCH /me: they are `private, no-cache`, so that "
            "their ETag is of use, and a browser may keep the account until the logout's "
            "Clear-Site-Data."
        ),
    ),
    _covered(
        "14.3.3",
        2,
        _ROUTES_LOGIN + "::test_the_secret_of_a_session_is_in_its_cookie_only",
        _ASVS_SERVICE + "::test_v7_2_3_session_tokens_are_random_and_unique",
    ),
    _covered(
        "16.1.1",
        2,
        _ASVS_DOCUMENTS + "::test_v16_1_1_what_is_logged_is_documented",
    ),
    _covered(
        "16.2.1",
        2,
        _ASVS_WIRE + "::test_v16_2_logs_are_lines_of_json_in_utc_and_nowhere_else",
        _AUDIT + "::test_login_and_logout",
    ),
    _covered(
        "16.2.2",
        2,
        _ASVS_WIRE + "::test_v16_2_logs_are_lines_of_json_in_utc_and_nowhere_else",
    ),
    _covered(
        "16.2.3",
        2,
        _ASVS_WIRE + "::test_v16_2_logs_are_lines_of_json_in_utc_and_nowhere_else",
    ),
    _covered(
        "16.2.4",
        2,
        _ASVS_WIRE + "::test_v16_2_logs_are_lines_of_json_in_utc_and_nowhere_else",
    ),
    _covered(
        "16.2.5",
        2,
        _CANARY + "::test_no_secret_is_told_by_any_route",
        _CANARY + "::test_no_secret_is_told_by_a_real_service",
        _ASVS_WIRE + "::test_v16_2_logs_are_lines_of_json_in_utc_and_nowhere_else",
        _ASVS_SERVICE + "::test_v16_3_2_what_somebody_may_not_is_logged",
    ),
    _covered(
        "16.3.1",
        2,
        _AUDIT + "::test_login_and_logout",
        _AUDIT + "::test_refused_logins",
        _AUDIT + "::test_change_of_password",
    ),
    _covered(
        "16.3.2",
        2,
        _ASVS_SERVICE + "::test_v16_3_2_what_somebody_may_not_is_logged",
        _REFUSED_ACCESS + "::test_a_refused_authorisation_is_an_event_of_its_account",
    ),
    _covered(
        "16.3.3",
        2,
        _ASVS_SERVICE + "::test_v16_3_2_what_somebody_may_not_is_logged",
        _REFUSED_ACCESS + "::test_a_foreign_page_is_an_event",
        _GUESSING + "::test_throttling_is_written_down_once_for_each_network",
    ),
    _covered(
        "16.3.4",
        2,
        _ERRORS + "::test_what_nobody_foresaw_is_logged_and_not_told",
        _LOGS + "::test_a_database_that_is_away_is_told_once_with_its_cause",
    ),
    _covered(
        "16.4.1",
        2,
        _ASVS_WIRE + "::test_v16_2_logs_are_lines_of_json_in_utc_and_nowhere_else",
        _LOGS + "::test_what_clients_send_cannot_begin_a_line",
    ),
    _covered(
        "16.4.2",
        2,
        _ASVS_SERVICE + "::test_v13_2_2_the_service_needs_no_rights_but_rows",
    ),
    _not_applicable(
        "16.4.3",
        2,
        "Lines go to standard output; taking them elsewhere is the deployment's.",
    ),
    _covered(
        "16.5.1",
        2,
        _ERRORS + "::test_what_nobody_foresaw_is_logged_and_not_told",
        _ROWS_INPUT + "::test_row_64_what_is_broken_lets_nobody_in",
    ),
    _covered(
        "16.5.2",
        2,
        _GUESSING + "::test_limits_hold_while_the_store_is_away_and_are_shared_again_after",
        _ROUTES_HEALTH + "::test_ready_tells_the_truth_about_the_database",
    ),
    _covered(
        "16.5.3",
        2,
        _ROWS_INPUT + "::test_row_64_what_is_broken_lets_nobody_in",
        _ROWS_IDENTITY + "::test_row_49_a_hook_that_fails_lets_nobody_in",
    ),
)
