"""The one table of problem types: what each error code means to a client of the API, and what to do about it.

`type` of a problem is `/problems/<code>`, a page that is made of this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from schemas.errors import WorkflowError


class ProblemType(NamedTuple):
    """A kind of problem. `retry_after_s`: what the answer's Retry-After says, None where repeating does not help."""

    status: int
    title: str
    meaning: str
    cause: str
    fix: str
    retry_after_s: int | None = None


def _elsewhere(title: str, meaning: str, fix: str) -> ProblemType:
    """A kind that no request meets. It has a page because its code is the same on every surface."""
    return ProblemType(
        500, title, meaning, "It is met by a worker, a projector or a command, not by a request to the API.", fix
    )


PROBLEMS: Final[Mapping[str, ProblemType]] = {
    # what a client can mend
    "request_refused": ProblemType(
        400,
        "Request refused",
        "The request was not taken; nothing was written.",
        "Something in it is not as the API asks for.",
        "See `detail` and `errors`, and the operation at /docs.",
    ),
    "request_malformed": ProblemType(
        400,
        "Not an HTTP/1.1 request",
        "The bytes received are no request that this server reads.",
        "A broken client, an old HTTP version, or another protocol on this port.",
        "Send HTTP/1.1, and check the address.",
    ),
    "parameter_invalid": ProblemType(
        400,
        "Parameter invalid",
        "A part of the path, the query or a header has a value that is not taken; nothing was written.",
        "A misspelt parameter, a value outside its bounds, or one given twice.",
        "`errors[].pointer` names the parameter (`query/limit`), `limit` its bound; /docs lists what each operation takes.",
    ),
    "cursor_refused": ProblemType(
        400,
        "Cursor refused",
        "The cursor belongs to another list than the one asked for, or is none that this API gave.",
        "A filter was changed between two pages, or the cursor was cut or edited.",
        "Repeat the filters of the first page with each cursor (the Link header holds the whole address), or start without one.",
    ),
    "json_refused": ProblemType(
        400,
        "JSON refused",
        "The body is no JSON text that every store of the platform can hold; nothing was written.",
        "Broken syntax, a duplicate key, \\u0000, half of a surrogate pair, an integer past 64 bits, NaN, 1e400, or too deep nesting.",
        "`errors[].pointer` leads to the value. Send big numbers as strings; WORKFLOW_JSON_DEPTH_MAX bounds the nesting.",
    ),
    "not_authenticated": ProblemType(
        401,
        "No API key that may be used",
        "This operation needs an API key, and the request has none that may be used.",
        "The Authorization header is missing or given twice, or its key is misspelt, unknown or revoked.",
        "Send `Authorization: Bearer wfk_…`. `workflow keys create` makes a key, `workflow keys list` shows those that there are.",
    ),
    "scope_missing": ProblemType(
        403,
        "Scope missing",
        "The API key is good, but may not do this; nothing was written.",
        "The operation needs a scope that the key was not given; `detail` names it.",
        "Use another key, or make one with `workflow keys create NAME --scope …`: the scopes of a key never change.",
    ),
    "path_unknown": ProblemType(
        404,
        "No such path",
        "The API has nothing at this path.",
        "A misspelt path or a missing /api/v1.",
        "GET /docs lists the paths.",
    ),
    "definition_unknown": ProblemType(
        404,
        "No such workflow",
        "No workflow has this id, or it has no such version.",
        "It was never defined here, or the id is misspelt.",
        "GET /api/v1/workflows lists them; POST /api/v1/workflows defines one.",
    ),
    "run_not_then": ProblemType(
        404,
        "No such state of the run",
        "The run is known, and had not begun at that time, or has no event of that number.",
        "`at` lies before the run, or beyond its last event.",
        "`detail` says when the run began, or which event is its last; GET /api/v1/runs/{run_id}/events lists them.",
    ),
    "workflow_not_then": ProblemType(
        404,
        "Not defined then",
        "The workflow is known, and had no version at that time.",
        "`as_of` lies before its first version.",
        "`detail` says since when there is one.",
    ),
    "projection_unknown": ProblemType(
        404,
        "No such projection",
        "There is no projection of this name.",
        "A misspelt name.",
        "GET /api/v1/projections lists them.",
    ),
    "no_rebuild": ProblemType(
        409,
        "No rebuild runs",
        "There is nothing to cancel.",
        "The rebuild has ended, or none was begun.",
        "GET /api/v1/projections shows the last one.",
    ),
    "no_shared_tables": ProblemType(
        409,
        "No shared tables",
        "The platform keeps its read tables in the memory of each process.",
        "STORAGE_BACKEND is `memory`.",
        "Start the process again: it folds the log anew. Or choose another store.",
    ),
    "rebuild_of_another": ProblemType(
        409,
        "Another release rebuilds",
        "A rebuild runs that makes the projection of a newer release.",
        "A deployment is under way.",
        "Wait for it, or cancel it: POST /api/v1/projections/runs/cancel.",
    ),
    "run_unknown": ProblemType(
        404,
        "No such run",
        "The read tables know no run with this id.",
        "The id is misspelt, or the run was accepted a moment ago and the tables have not seen it yet.",
        "Pass the `position` of the answer that gave the id as `min_position`: the read then waits for it.",
    ),
    "history_damaged": ProblemType(
        500,
        "History damaged",
        "The tables' history of this run is not what the log says; the log itself is whole.",
        "Somebody wrote to the tables by hand or took a part of the history away, or their disk is damaged.",
        "`workflow verify` shows what differs; `workflow rebuild` makes the tables anew from the log.",
    ),
    "key_unknown": ProblemType(
        404,
        "No such API key",
        "No key has this id.",
        "The id is misspelt; the name of a key is not its id.",
        "GET /api/v1/keys lists them with their ids.",
    ),
    "method_refused": ProblemType(
        405,
        "Method not allowed",
        "The path exists, but does not take this method.",
        "Often a GET in place of a POST.",
        "The Allow header lists the methods.",
    ),
    "body_too_slow": ProblemType(
        408,
        "Body too slow",
        "The body stopped coming before its end; nothing was written.",
        "A slow or broken connection, or a Content-Length above what is sent.",
        "Send it again.",
    ),
    "key_name_taken": ProblemType(
        409,
        "Key name taken",
        "A key of this name may be used already; no other one was made.",
        "Names are unique among keys that are not revoked, because events name them.",
        "Take another name, or revoke that key first.",
    ),
    "keys_off": ProblemType(
        409,
        "No API keys here",
        "This API asks nobody for a key, and therefore neither shows nor makes any.",
        "WORKFLOW_AUTH is not `keys`.",
        "Set WORKFLOW_AUTH=keys, or use `workflow keys`, which works on Kafka.",
    ),
    "too_large": ProblemType(
        413,
        "Too large",
        "The body, the payload or the definition is over its bound; nothing was written.",
        "Payload, definition and envelope of a start must fit into one Kafka record.",
        "Send less (a reference instead of the content), or raise the setting that the answer names.",
    ),
    "uri_too_long": ProblemType(
        414,
        "Address too long",
        "Path and query together are over their bound.",
        "Often a very long cursor or position.",
        "Send a shorter query.",
    ),
    "media_type_refused": ProblemType(
        415,
        "Not application/json",
        "The body is declared to be something else than JSON; nothing was written.",
        "A missing or wrong Content-Type; curl -d sends form data unless told otherwise.",
        "Add -H 'Content-Type: application/json'.",
    ),
    "body_invalid": ProblemType(
        422,
        "Body invalid",
        "The body is sound JSON, but not what this operation takes; nothing was written.",
        "A missing, unknown or wrong field.",
        "`errors` lists each field by its pointer; /docs shows the shape.",
    ),
    "idempotency_key_reused": ProblemType(
        422,
        "Idempotency-Key reused",
        "The key names a run that was started with another body; nothing was written.",
        "A client that takes one key for two different starts.",
        "Take a new key for each new start, the same one only to repeat it.",
    ),
    "key_refused": ProblemType(
        422,
        "API key refused",
        "No such key can be made; nothing was written.",
        "There are as many keys as there may be, or a record of workflow.keys is none.",
        "See `detail`.",
    ),
    "command_refused": ProblemType(
        422,
        "Command refused",
        "The command cannot be taken; nothing was written.",
        "A field is missing, unknown or wrong.",
        "See `detail`; docs/events.md shows the shapes of commands.",
    ),
    "template_refused": ProblemType(
        422,
        "Expression unreadable",
        "A text of a step's config holds a `${…}` that cannot be read.",
        "An unclosed brace or quote, or an expression over its bound.",
        "Write `$${` for a plain `${`.",
    ),
    "rate_limited": ProblemType(
        429,
        "Too many requests",
        "The API key has made as many requests as it may for now. Nothing was written.",
        "WORKFLOW_RATE_LIMIT, or the limit that the key was made with. Each API process counts for itself; a batch counts as many requests as it has starts.",
        "Wait for as long as Retry-After says. The RateLimit header tells what is left.",
        1,
    ),
    "backlog_full": ProblemType(
        429,
        "Too many unfinished runs",
        "The workflow has as many runs that have not ended as it may have. Nothing was written.",
        "WORKFLOW_PENDING_RUNS_MAX; runs that sleep long, a target that is slow, too few workers, or a client that starts in a loop.",
        "Wait for as long as Retry-After says, and look at `GET /api/v1/runs?workflow_id=…&status=RUNNING`.",
        5,
    ),
    "headers_too_large": ProblemType(
        431,
        "Headers too large",
        "The request's headers are over their bound.",
        "Often a huge cookie.",
        "Send fewer or shorter headers.",
    ),
    # what passes by itself
    "broker_away": ProblemType(
        503,
        "Kafka away",
        "Kafka does not answer. Nothing was written.",
        "The broker is down, starting, or out of reach.",
        "Repeat it later; the platform goes on by itself when Kafka is back.",
        2,
    ),
    "outcome_unknown": ProblemType(
        503,
        "Outcome unknown",
        "The write was sent to Kafka, and no answer came in time: it may have happened or not.",
        "The broker died or froze, or the connection broke, between the send and its acknowledgement.",
        "Repeat the request with the same Idempotency-Key: it is the same run however often it arrives. Defining a workflow again is always safe, and so is revoking a key; of a new key, see `detail`.",
        2,
    ),
    "store_away": ProblemType(
        503,
        "Store away",
        "The read tables do not answer. Nothing was written.",
        "The database is down, starting, or out of reach.",
        "Repeat it later; starts without an Idempotency-Key and running runs do not need the store.",
        2,
    ),
    "position_not_reached": ProblemType(
        503,
        "Position not reached",
        "What is read here is behind the `min_position` that was asked for, and did not reach it within `wait`.",
        "The projector is away, busy or rebuilding; or the position comes from another platform.",
        "Repeat it; `position` and `min_position` show what is lacking, `/ready` how far the projection is behind. Without `min_position` an older state is shown.",
        1,
    ),
    "overloaded": ProblemType(
        503,
        "Overloaded",
        "This process has more requests at once than it takes. Nothing was written.",
        "A burst, or a slow dependency.",
        "Repeat it a little later, or run more API processes.",
        1,
    ),
    "log_mismatch": ProblemType(
        503,
        "Another log",
        "The topics are not the ones that this process has read before.",
        "A restored volume, a deleted topic, or another cluster behind the same address.",
        "Check KAFKA_BOOTSTRAP_SERVERS; if it is the right cluster, run `workflow rebuild` and start the processes again.",
        10,
    ),
    # our own mistakes
    "internal_error": ProblemType(
        500,
        "Internal error",
        "A mistake of the platform itself; what was asked for may have happened or not.",
        "A bug.",
        "Repeat a start with the same Idempotency-Key. Report it with the `request_id`: the log holds the cause beside it.",
    ),
    "workflow_error": ProblemType(
        500,
        "Error",
        "An error without a kind of its own.",
        "See `detail`.",
        "Report it with the `request_id`.",
    ),
    # what other processes meet
    "bad_setting": _elsewhere(
        "Bad setting", "A setting has a value with which the process cannot start.", "Change it, and start again."
    ),
    "topic_mismatch": _elsewhere(
        "Topic mismatch",
        "A topic is not configured as needed.",
        "Do what the message says; nothing is changed by itself.",
    ),
    "stale_position": _elsewhere(
        "Stale position", "Two projectors worked on one partition; one stepped back.", "Nothing: it reads on."
    ),
    "store_refused": _elsewhere(
        "Store refused",
        "The tables do not take what the log says.",
        "If they were changed by hand, run `workflow rebuild`.",
    ),
    "other_projection": _elsewhere(
        "Another projection",
        "The tables were made by another release: only that one may write to them.",
        "Projectors of a newer release make them anew by themselves; GET /api/v1/projections shows how far they are.",
    ),
    "rebuild_failed": _elsewhere(
        "Rebuild failed", "The log cannot be folded into new tables.", "Do what the message says, and begin it again."
    ),
    "rebuild_cancelled": _elsewhere(
        "Rebuild cancelled", "Somebody ended the rebuild.", "Begin it again if it is still wanted."
    ),
    "not_co_partitioned": _elsewhere(
        "Partitions split", "A worker was given commands without their events.", "Run one version in the whole group."
    ),
    "partitions_not_owned": _elsewhere(
        "Partitions not owned",
        "A worker could not take partitions that it was given.",
        "Let its supervisor start it again.",
    ),
    "event_unreadable": _elsewhere(
        "Event unreadable",
        "A record of the log is no event; it is passed over.",
        "Find who else writes to workflow.events.",
    ),
    "expression_fault": _elsewhere(
        "Expression failed",
        "An expression of a step's config has no value.",
        "See the run's `error`; test for keys with has(…).",
    ),
    "body_refused": _elsewhere(
        "Webhook's answer refused", "A step got an answer that it cannot keep.", "See the run's `error`."
    ),
    "address_denied": _elsewhere(
        "Address denied",
        "A webhook's host is not public, or resolves to an address that is not; it was not called.",
        "If it shall be called, name it in WEBHOOK_ALLOW of the workers and start the run again.",
    ),
    "secret_unknown": _elsewhere(
        "Secret unknown",
        "A step refers to a secret that its worker does not have.",
        "Set WORKFLOW_SECRET_<NAME> for the workers, or put a file with the secret's name into WORKFLOW_SECRETS_DIR.",
    ),
    "secret_unusable": _elsewhere(
        "Secret unusable",
        "A secret is empty, cannot be read, or is no key where one is needed to sign with.",
        "See the run's `error`, and mend the secret; nothing needs to be started again for it.",
    ),
    "embedded_part_missing": _elsewhere(
        "Part missing", "A package of the embedded servers is not installed.", "Run `make setup`."
    ),
    "download_failed": _elsewhere(
        "Download failed", "The embedded Kafka could not be downloaded.", "Check the network, and start again."
    ),
    "server_not_started": _elsewhere(
        "Server not started", "An embedded server did not start.", "Its log, named in the message, says why."
    ),
    "start_interrupted": _elsewhere(
        "Start interrupted", "The platform was stopped before all of it ran.", "Start it again."
    ),
    "port_taken": _elsewhere("Port taken", "Another process listens on the port.", "Stop it, or choose another port."),
    "password_refused": _elsewhere(
        "Password refused",
        "Kafka or PostgreSQL does not let the user in.",
        "Set the user and the password that the message names.",
    ),
    "connection_refused": _elsewhere(
        "Connection refused",
        "Kafka or PostgreSQL and this platform do not agree on TLS or on who is who.",
        "Do what the message says, and start again.",
    ),
    "no_platform": _elsewhere(
        "No platform", "No platform has started in this folder.", "Start one with `workflow up`."
    ),
    "home_in_use": _elsewhere(
        "Folder in use", "A platform already runs in this folder.", "Stop it, or take another one with --home."
    ),
    "home_unusable": _elsewhere(
        "Folder unusable", "The platform's folder cannot be used.", "Take another one with --home."
    ),
}


def code_of(error: WorkflowError) -> str:
    """The error's line in the table: its class's code, whatever finer code the instance carries."""
    return type(error).code


def problem_type(error: WorkflowError) -> ProblemType:
    """How the error is shown; one without a line of its own is shown as our mistake."""
    return PROBLEMS.get(code_of(error), PROBLEMS["internal_error"])
