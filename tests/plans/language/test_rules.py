"""Well-formed plans that `plan check` refuses, and similar ones that it must accept."""

from pathlib import Path

import pytest

from drtool.errors import ConfigError
from drtool.plans.language import load_plan

HEAD = "version: 1\nid: p\ntitle: T\n"
ONE = "steps:\n  - {id: a, uses: verify, with: {level: structure}}\n"
ASK = "  - {id: ask, uses: approve, with: {prompt: Go?}}\n"
BACK = "with: {snapshot: {source: home}, to: {path: /srv}, overwrite: always}"


def told(text: str) -> list[str]:
    """Return the problems of a plan."""
    try:
        load_plan(Path("p.yaml"), lambda _: text.encode())
    except ConfigError as error:
        return error.message.splitlines()
    return []


def step(text: str, *, scope: str = "live", more: str = "") -> str:
    return f"{HEAD}scope: {scope}\n{more}steps:\n  - {{id: s, {text}}}\n"


FAULT = "uses: fault, with: {type: TYPE, target: {TARGET}, duration: 5m, AMOUNT}"


def fault(kind: str, target: str, amount: str = "amount: {}") -> str:
    return step(FAULT.replace("TYPE", kind).replace("TARGET", target).replace("AMOUNT", amount))


def probe(text: str) -> str:
    return step(f"uses: probe, with: {{{text}}}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        # objectives, schedule, guards
        (
            HEAD + "objectives: {detection: 1h, rto: 4h, wrt: 4h, mtpd: 8h}\n" + ONE,
            "p.yaml:4:47: objectives.mtpd: detection + rto + wrt is 1h + 4h + 4h = 9h, more than the 8h of mtpd",
        ),
        (HEAD + "objectives: {rpo: 1h}\n" + ONE, "objectives.rpo: no step restores anything, so it could never be measured"),
        (HEAD + "objectives: {wrt: 1h}\n" + ONE, "objectives.wrt: no step has `milestone: recovered`, so it could never be"),
        (
            HEAD + "objectives: {wrt: 1h}\n" + ONE.replace("}}", "}, milestone: recovered}"),
            "objectives.wrt: no step has `milestone: validated`, so it could never be measured",
        ),
        (HEAD + "schedule: {cron: '17 3 * * 0', must_pass_every: 7d, jitter: 20m}\n" + ONE, "runs are up to 7d"),
        (HEAD + "schedule: {cron: '17 3 * * 0', timezone: Europe/Atlantis}\n" + ONE, "there is no time zone"),
        (HEAD + "schedule: {cron: '0 0 30 2 *'}\n" + ONE, "'0 0 30 2 *' matches no time"),
        (HEAD + "schedule: {cron: '0 24 * * *'}\n" + ONE, "schedule.cron: hour: expected 0 to 23, not '24'"),
        (HEAD + "schedule: {cron: '@daily'}\n" + ONE, "not cron's five fields"),
        (HEAD + "guards: {windows: ['Tue-Thu 9-15']}\n" + ONE, "guards.windows[0]: not a window"),
        (HEAD + "guards: {windows: ['Tue 09:00-15:00 Europe/Atlantis']}\n" + ONE, "unknown time zone"),
        (HEAD + "guards: {only_sites: [a], never_sites: [a]}\n" + ONE, "a is in both only_sites and never_sites"),
        (HEAD + "guards: {never_sites: ['${{ vars.lost }}']}\n" + ONE, "guards.never_sites[0]: there is no variable 'lost'"),
        (HEAD + "concurrency: {group: 'x-${{ steps.a }}'}\n" + ONE, "concurrency.group: step 'a' may not have ended"),
        # secrets
        (HEAD + "secrets: {s: {env: A, file: /b}}\n" + ONE, "exactly one of env, file, command, systemd-credential"),
        (HEAD + "secrets: {s: {}}\n" + ONE, "exactly one of"),
        (HEAD + "secrets: {s: hunter2}\n" + ONE, "secrets.s: expected a mapping"),
        (step("uses: run, with: {argv: [x, '${{ secrets.s }}']}", more="secrets: {s: {env: S}}\n"), "with.argv[1]: secrets may"),
        (step("if: secrets.s == 'x', uses: verify, with: {level: full}", more="secrets: {s: {env: S}}\n"), "secrets may be used"),
        (
            step("uses: assert, with: {that: [\"secrets.s == 'x'\"]}", more="secrets: {s: {env: S}}\n"),
            "with.that[0]: secrets may be used only in env, headers, dsn and stdin",
        ),
        (
            probe("type: metric, url: 'http://x', metric: m, labels: {dsn: '${{ secrets.s }}'}, expect: {min: 1}").replace(
                "steps:", "secrets: {s: {env: S}}\nsteps:"
            ),
            "with.labels.dsn: secrets may be used only",
        ),
        # an expression is refused where none would be filled in
        (step("name: 'x ${{ run.id }}', uses: verify, with: {level: full}"), "steps[0].name: expressions are not allowed here"),
        (HEAD.replace("T", "'${{ run.id }}'") + ONE, "title: expressions are not allowed here"),
        (HEAD + ONE + "guards: {kill_switch: '/x/${{ run.id }}'}\n", "guards.kill_switch: expressions are not allowed"),
        (step("uses: run, with: {argv: [x], env: {'${{ run.id }}': y}}"), "with.env.${{ run.id }}: expressions are not allowed"),
        # steps
        (step("uses: verify, with: {level: full}, on_failure: tolerate"), "on_failure: tolerate needs a `reason`"),
        (step("uses: verify, with: {level: full}, on_resume: confirm"), "must be given together"),
        (
            HEAD + "steady_state: {probes: [{id: x, uses: run, with: {argv: [touch, /x]}}]}\n" + ONE,
            "steady_state.probes[0].uses: a probe of the steady state must change nothing",
        ),
        (HEAD + "preconditions: [{id: x, uses: verify, with: {level: restore}}]\n" + ONE, "a precondition must change nothing"),
        (HEAD + "preconditions: [{id: x, uses: backup, with: {source: h}}]\n" + ONE, "a precondition must change nothing"),
        (HEAD + ONE + "always: [{id: x, needs: [a], uses: verify, with: {level: full}}]\n", "in `always` cannot have `needs`"),
        (HEAD + ONE + "always: [{id: x, if: 'true', uses: verify, with: {level: full}}]\n", "in `always` cannot have `if`"),
        (HEAD + ONE + "always: [{id: x, uses: approve, with: {prompt: y}}]\n", "must not wait for a person"),
        (
            HEAD
            + ONE.replace("}}", "}, milestone: detected}")
            + "  - {id: b, uses: wait, with: {duration: 5s}, milestone: detected}\n",
            "detected is already reached by step 'a'",
        ),
        (
            HEAD + ONE + "  - {id: ask, uses: approve, with: {prompt: Go?, show: [a]}}\n",
            "steps[1].with.show[0]: step 'a' may not have ended by then",
        ),
        # restore
        (
            step("uses: restore, with: {snapshot: {source: db, select: point-in-time}, to: {scratch: true}}"),
            "with.snapshot.select: point-in-time recovery is not possible: databases are logical dumps",
        ),
        (step("uses: restore, with: {snapshot: {id: ab, source: h}, to: {scratch: true}}"), "an id names one snapshot"),
        (step("uses: restore, with: {snapshot: {select: at}, to: {scratch: true}}"), "must be given together"),
        (step("uses: restore, with: {snapshot: {at: now}, to: {scratch: true}}"), "must be given together"),
        (step("uses: restore, with: {snapshot: {within: 5d}, to: {scratch: true}}"), "`within` is only for"),
        (step("uses: restore, with: {to: {}}"), "exactly one destination: scratch: true, path, dsn or stream"),
        (step("uses: restore, with: {to: {scratch: true, path: /x}}"), "exactly one destination: scratch: true"),
        (step("uses: restore, with: {to: {scratch: true}, delete: true}"), "only a restore to a path can delete"),
        # verify, run, wait
        (step("uses: verify, with: {level: full, sample: {count: 3}}"), "`sample` is only for level: sample"),
        (step("uses: verify, with: {level: sample}"), "exactly one of fraction and count"),
        (step("uses: verify, with: {level: sample, sample: {count: 3, fraction: 2%}}"), "exactly one of fraction and count"),
        (step("uses: run, with: {argv: ['a ${{ run.id }}'], shell: true}"), "with.argv: `shell: true` forbids ${{ here"),
        (step("uses: run, with: {argv: [a, b], shell: true}"), "argv must be a single line for the shell"),
        (step("uses: run, with: {argv: []}"), "the program is missing"),
        (step("uses: run, with: {argv: ls -l}"), "such as [ls, -l]; 'ls -l' would not be split"),
        (probe("type: command, argv: ls -l"), "write a list of words"),
        (step("uses: assert, with: {that: []}"), "with.that: expected a list of length >= 1"),
        (step("uses: compare, with: {left: a, right: b, what: '${{ vars.x }}'}"), "with.what: must be written out"),
        (step("uses: run, with: {argv: [x], expect: {stdout_matches: '('}}"), "not a regular expression"),
        (step("uses: wait, with: {}"), "give either `duration` or `until`"),
        (step("uses: wait, with: {duration: 5s, until: 'true'}"), "give either"),
        # faults
        (fault("offline", "site: b").replace("duration: 5m, ", ""), "the key 'duration' is missing: every fault needs an end"),
        (fault("offline", "site: b, target: b/c"), "exactly one of site and target"),
        (fault("offline", "site: b, object: x"), "only `corrupt` affects single objects"),
        (fault("corrupt", "site: b"), "name the objects to corrupt"),
        (fault("slow", "site: b"), "give latency, rate, or both"),
        (fault("full", "site: b", "amount: {latency: 3s}"), "latency does not apply to a fault of type full"),
        (fault("offline", "site: b").replace("steps:", "guards: {max_duration: 4m}\nsteps:"), "lasts longer than guards.max_d"),
        (fault("offline", "site: b").replace("{id: s,", "{id: s, foreach: [1],"), "a fault cannot have foreach"),
        (HEAD + ONE + "always: [{id: x, uses: fault, with: {type: full, target: {site: b}, duration: 1m}}]\n", "cannot inject f"),
        # probes
        (probe("type: sql, engine: sqlite, dsn: /x, query: select 1"), "give at least one expectation"),
        (probe("type: tcp, host: x"), "the key 'port' is missing"),
        (probe("type: tcp, host: x, port: 5, successes: 3"), "give the time limit in `within`"),
        (probe("type: pgsql"), "unknown type 'pgsql'; the nearest known one is 'sql'"),
        (probe("type: http, url: ftp://x"), "steps[0].with.url"),
        # variables
        (HEAD + "vars: {a: {type: int, default: x}}\n" + ONE, "vars.a.default: expected a whole number, not 'x'"),
        (HEAD + "vars: {a: {type: duration, enum: [1h, x]}}\n" + ONE, "vars.a.enum[1]: not a duration"),
        (HEAD + "vars: {a: {type: path, default: ../x}}\n" + ONE, "expected an absolute path without '..'"),
        (HEAD + "vars: {a: {type: string, default: b, enum: [c]}}\n" + ONE, "expected one of c, not 'b'"),
        (HEAD + "vars: {a: {type: string, default: b, required: true}}\n" + ONE, "its default would never be used"),
        (HEAD + "vars: {a: {type: string, pattern: '['}}\n" + ONE, "not a regular expression"),
        (HEAD + "vars: {a: {type: int, pattern: x}}\n" + ONE, "a pattern is for string, path and list"),
    ],
)  # fmt: skip
def test_refused(text, sentence):
    found = told(text)
    assert any(sentence in line for line in found), found


@pytest.mark.parametrize("role", ["steps", "preconditions", "always", "steady_state"])
def test_values_are_never_pasted_into_a_query(role):
    asks = """\
      uses: probe
      with:
        type: sql
        engine: sqlite
        dsn: /x
        query: select '${{ run.id }}'
        params: ["${{ run.id }}"]
        expect: {rows: 1}
"""
    own = f"    - id: s\n{asks}"
    text = {"steady_state": f"steady_state:\n  probes:\n{own}"}.get(role, f"{role}:\n{own}")
    line = f"{HEAD}{text}".splitlines().index("        query: select '${{ run.id }}'") + 1
    (problem,) = told(HEAD + text + ("" if role == "steps" else ONE))
    assert problem.startswith(f"p.yaml:{line}:9: ")
    assert problem.endswith("values are never pasted into SQL; write $1 (PostgreSQL) or ?, and pass them in `params`")


# --- changes of production need an approval


@pytest.mark.parametrize(
    "change",
    [
        "uses: run, with: {argv: [reboot]}",
        "uses: fault, with: {type: offline, target: {site: b}, duration: 5m}",
        "uses: restore, with: {to: {path: /srv}}",
        "uses: restore, with: {to: {dsn: x, engine: postgresql}}",
        f"uses: restore, {BACK}",
    ],
)
def test_scratch_changes_production_only_behind_an_approval(change):
    refused = told(step(change, scope="scratch"))
    assert len(refused) == 1
    assert "approve step" in refused[0]
    assert told(f"{HEAD}scope: scratch\nsteps:\n{ASK}  - {{id: s, needs: [ask], {change}}}\n") == []


@pytest.mark.parametrize(
    "harmless",
    [
        "uses: run, with: {argv: [pg_amcheck], changes: scratch}",
        "uses: restore, with: {to: {scratch: true}}",
        "uses: repair, with: {site: b}",
        "uses: backup, with: {source: home}",
        "uses: verify, with: {level: restore}",
    ],
)
def test_scratch_may_do_what_touches_no_production(harmless):
    assert told(step(harmless, scope="scratch")) == []


def test_live_may_change_production_but_overwrites_only_behind_an_approval():
    assert told(step("uses: run, with: {argv: [reboot]}")) == []
    assert told(step("uses: restore, with: {to: {path: /srv}}")) == []
    assert "must include an approve step" in told(step(f"uses: restore, {BACK}"))[0]
    assert "must include an approve step" in told(step("uses: restore, with: {to: {path: /x}, delete: true}"))[0]


@pytest.mark.parametrize(
    "steps",
    [
        # the question can be skipped although the step runs
        ASK.replace("uses", "if: 'false', uses") + f"  - {{id: s, needs: [ask], uses: restore, {BACK}}}\n",
        # its answer does not count
        ASK.replace("uses", "on_failure: continue, uses") + f"  - {{id: s, needs: [ask], uses: restore, {BACK}}}\n",
        ASK.replace("uses", "optional: true, uses") + f"  - {{id: s, needs: [ask], uses: restore, {BACK}}}\n",
        # it may be that no person is asked
        ASK.replace("uses", "foreach: [], uses") + f"  - {{id: s, needs: [ask], uses: restore, {BACK}}}\n",
        ASK.replace("uses", "on_resume: skip, uses") + f"  - {{id: s, needs: [ask], uses: restore, {BACK}}}\n",
        # the step runs after any answer
        ASK + f"  - {{id: s, needs: [ask], if: always(), uses: restore, {BACK}}}\n",
        # it may not be answered yet
        ASK + f"  - {{id: s, needs: ['ask:started'], uses: restore, {BACK}}}\n",
        # a step between them ignores the answer
        ASK
        + "  - {id: m, needs: [ask], if: always(), uses: verify, with: {level: full}}\n"
        + f"  - {{id: s, needs: [m], uses: restore, {BACK}}}\n",
        # it comes after the step, or beside it
        f"  - {{id: s, uses: restore, {BACK}}}\n" + ASK.replace("uses", "needs: [s], uses"),
        f"  - {{id: s, uses: restore, {BACK}}}\n" + ASK,
    ],
)
def test_an_approval_that_can_be_bypassed_does_not_count(steps):
    refused = told(f"{HEAD}scope: live\nsteps:\n{steps}")
    assert len(refused) == 1
    assert "that cannot be skipped" in refused[0]


def test_an_approval_counts_through_others_and_under_the_same_condition():
    middle = "  - {id: m, needs: [ask], uses: verify, with: {level: full}}\n"
    assert told(f"{HEAD}steps:\n{ASK}{middle}  - {{id: s, needs: [m], uses: restore, {BACK}}}\n") == []
    assert told(f"{HEAD}steps:\n{ASK}  - {{id: s, needs: [ask], on_failure: continue, uses: restore, {BACK}}}\n") == []
    same = f"  - {{id: s, needs: [ask], if: vars.x, uses: restore, {BACK}}}\n"
    text = f"{HEAD}vars: {{x: {{type: bool, default: false}}}}\nsteps:\n{ASK.replace('uses', 'if: vars.x, uses')}{same}"
    assert told(text) == []


def test_secrets_are_allowed_where_they_are_never_shown():
    more = "secrets: {s: {systemd-credential: S}, t: {command: [pass, show, t]}}\n"
    assert (
        told(step("uses: run, with: {argv: [x], env: {P: '${{ secrets.s }}'}, stdin: '${{ secrets.t }}'}", more=more))
        == []
    )
    step_context = "type: http, url: 'https://x/', headers: {Authorization: 'Bearer ${{ secrets.s }}'}"
    assert told(step(f"uses: probe, with: {{{step_context}}}", more=more)) == []
    dsn = "type: sql, engine: mysql, dsn: 'x:${{ secrets.t }}@y', query: q, expect: {rows: 1}"
    assert told(step(f"uses: probe, with: {{{dsn}}}", more=more)) == []


def test_all_broken_rules_are_reported_at_once():
    text = step("uses: restore, on_failure: tolerate, with: {to: {}, snapshot: {select: at}}")
    assert len(told(text)) == 3
