"""Rules beside the model: rules, their versions and states, rulesets, lists, backtests, and what rules did each day.

What must be true whatever a program does is enforced here: versions and rulesets never change, events are only added,
another person than the author approves, a rule has one live version, exceptions expire, list entries only end.
"""

from alembic import op

revision = "4"
down_revision = "3"

# Raised with the class of integrity errors, so that psycopg2 raises RestrictViolation.
REFUSALS = """
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% never change: % is refused', tg_table_name, lower(tg_op) using errcode = 'restrict_violation';
end $$;
"""
RULES = """
create table rules (
    rule_id bigint generated always as identity primary key,
    name text not null unique check (name ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    created_at timestamptz not null default now(),
    created_by text not null check (char_length(created_by) between 1 and 64)
);
create table rule_versions (
    rule_id bigint not null references rules,
    version integer not null check (version >= 1),
    lane text not null default 'rule' check (lane in ('rule', 'exception')),
    "when" text not null check (char_length("when") between 1 and 2000),
    answer text not null check (answer in ('approve', 'challenge', 'decline')),
    queue boolean not null default false,
    owner text not null check (char_length(owner) between 1 and 64),
    note text not null default '' check (char_length(note) <= 2000),
    rollout_percent integer not null default 100 check (rollout_percent between 1 and 100),
    expires_at timestamptz,
    author text not null check (char_length(author) between 1 and 64),
    created_at timestamptz not null default now(),
    -- What follows may change.
    state text not null default 'draft'
        check (state in ('draft', 'submitted', 'shadow', 'live', 'paused', 'retired')),
    approved_by text check (char_length(approved_by) between 1 and 64),
    approved_at timestamptz,
    four_eyes boolean not null default true, -- whether RULES_FOUR_EYES was on when it was approved
    expected_hits_per_day double precision check (expected_hits_per_day >= 0), -- of its newest backtest
    primary key (rule_id, version),
    constraint rule_versions_exception_expires check (lane = 'rule' or expires_at is not null),
    constraint rule_versions_exception_lowers check (lane = 'rule' or answer <> 'decline'),
    constraint rule_versions_approved check (state not in ('shadow', 'live') or approved_by is not null),
    constraint rule_versions_approval check ((approved_by is null) = (approved_at is null)),
    constraint rule_versions_four_eyes check (not four_eyes or approved_by <> author)
);
create unique index rule_versions_live on rule_versions (rule_id) where state = 'live';
create index rule_versions_in_force on rule_versions (rule_id, version) where state in ('shadow', 'live');
-- The transitions are those of rules/states.py. A restored ruleset brings back what was approved for it.
create function check_rule_version() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if new.state <> 'draft' then
            raise exception 'a version of a rule begins as a draft, not as %', new.state
                using errcode = 'check_violation', constraint = 'rule_versions_transition';
        end if;
        return new;
    end if;
    if (new.rule_id, new.version, new.lane, new."when", new.answer, new.queue, new.owner, new.note,
        new.rollout_percent, new.expires_at, new.author, new.created_at)
        is distinct from
        (old.rule_id, old.version, old.lane, old."when", old.answer, old.queue, old.owner, old.note,
        old.rollout_percent, old.expires_at, old.author, old.created_at)
    then
        raise exception 'version % of rule % never changes; add another version', old.version, old.rule_id
            using errcode = 'restrict_violation';
    end if;
    if new.state <> old.state
        and (old.state, new.state) not in (
            ('draft', 'submitted'), ('submitted', 'draft'), ('submitted', 'shadow'), ('submitted', 'live'),
            ('shadow', 'live'), ('shadow', 'paused'), ('live', 'paused'), ('paused', 'submitted'),
            ('draft', 'retired'), ('submitted', 'retired'), ('shadow', 'retired'), ('live', 'retired'),
            ('paused', 'retired')
        )
        and not (
            coalesce(current_setting('rules.restoring', true), '') = 'on'
            and new.state in ('shadow', 'live') and old.approved_by is not null
        )
    then
        raise exception 'version % of rule % cannot become % from %', old.version, old.rule_id, new.state, old.state
            using errcode = 'check_violation', constraint = 'rule_versions_transition';
    end if;
    return new;
end $$;
create trigger rule_versions_check before insert or update on rule_versions
    for each row execute function check_rule_version();
create trigger rule_versions_keep before delete on rule_versions for each row execute function refuse_change();
create trigger rule_versions_keep_all before truncate on rule_versions execute function refuse_change();
create trigger rules_keep before update or delete on rules for each row execute function refuse_change();
create trigger rules_keep_all before truncate on rules execute function refuse_change();

create table rule_events (
    event_id bigint generated always as identity primary key,
    rule_id bigint not null,
    version integer not null,
    from_state text, -- null: the version was written
    to_state text not null,
    by text not null check (char_length(by) between 1 and 64),
    reason text not null default '' check (char_length(reason) <= 500),
    at timestamptz not null default now(),
    foreign key (rule_id, version) references rule_versions
);
create index rule_events_of_rule on rule_events (rule_id, event_id);
create trigger rule_events_keep before update or delete on rule_events
    for each row execute function refuse_change();
create trigger rule_events_keep_all before truncate on rule_events execute function refuse_change();

-- What is in force is the newest one. Its content is made by rules/store.py, in the transaction of the change that it
-- shows, under an advisory lock: so the ids are in the order in which they become visible.
create table rulesets (
    ruleset_id bigint generated always as identity primary key,
    document jsonb not null check (jsonb_typeof(document -> 'rules') = 'array'),
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null check (char_length(created_by) between 1 and 64),
    reason text not null default '' check (char_length(reason) <= 500),
    document_hash text not null
);
create trigger rulesets_keep before update or delete on rulesets for each row execute function refuse_change();
create trigger rulesets_keep_all before truncate on rulesets execute function refuse_change();

-- A rule does not fire for one user, for a time.
create table suppressions (
    suppression_id bigint generated always as identity primary key,
    rule_id bigint not null references rules,
    user_id text not null check (char_length(user_id) between 1 and 256),
    valid_from timestamptz not null default now(),
    valid_to timestamptz not null,
    by text not null check (char_length(by) between 1 and 64),
    reason text not null default '' check (char_length(reason) <= 500),
    check (valid_to >= valid_from)
);
create index suppressions_of_rule on suppressions (rule_id);
create index suppressions_by_end on suppressions (valid_to);
create function check_suppression() returns trigger language plpgsql as $$
begin
    if (new.suppression_id, new.rule_id, new.user_id, new.valid_from, new."by", new.reason)
        is distinct from (old.suppression_id, old.rule_id, old.user_id, old.valid_from, old."by", old.reason)
        or new.valid_to > old.valid_to or new.valid_to < least(now(), old.valid_to)
    then
        raise exception 'suppression % can only end earlier, and not in the past', old.suppression_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger suppressions_check before update on suppressions for each row execute function check_suppression();
create trigger suppressions_keep before delete on suppressions for each row execute function refuse_change();
create trigger suppressions_keep_all before truncate on suppressions execute function refuse_change();
"""
LISTS = """
create table lists (
    list_name text primary key check (list_name ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    about text not null check (char_length(about) between 1 and 64), -- a text name of rules/catalogue.py
    note text not null default '' check (char_length(note) <= 2000),
    needs_approval boolean not null default true,
    created_by text not null check (char_length(created_by) between 1 and 64),
    created_at timestamptz not null default now()
);
create trigger lists_keep before update or delete on lists for each row execute function refuse_change();
create trigger lists_keep_all before truncate on lists execute function refuse_change();

create table list_entries (
    entry_id bigint generated always as identity primary key,
    list_name text not null references lists,
    value text not null check (char_length(value) between 1 and 256),
    valid_from timestamptz not null default now(), -- not before its approval, if it needs one
    valid_to timestamptz, -- null: for ever
    added_by text not null check (char_length(added_by) between 1 and 64),
    added_at timestamptz not null default now(),
    approved_by text check (char_length(approved_by) between 1 and 64),
    approved_at timestamptz,
    four_eyes boolean not null default true, -- whether RULES_FOUR_EYES was on when it was approved
    ended_by text check (char_length(ended_by) between 1 and 64),
    ended_reason text not null default '' check (char_length(ended_reason) <= 500),
    reason text not null default '' check (char_length(reason) <= 500),
    check (valid_to >= valid_from),
    constraint list_entries_approval check ((approved_by is null) = (approved_at is null)),
    constraint list_entries_four_eyes check (not four_eyes or approved_by <> added_by)
);
-- A value is not on a list for ever twice: who ends one entry would find that the other one still counts.
create unique index list_entries_for_ever on list_entries (list_name, value) where valid_to is null;
create index list_entries_of_list on list_entries (list_name, entry_id);
create function check_list_entry() returns trigger language plpgsql as $$
begin
    if (new.entry_id, new.list_name, new.value, new.added_by, new.added_at, new.reason)
        is distinct from (old.entry_id, old.list_name, old.value, old.added_by, old.added_at, old.reason)
        or (old.approved_by is not null
            and (new.approved_by, new.approved_at, new.four_eyes, new.valid_from)
            is distinct from (old.approved_by, old.approved_at, old.four_eyes, old.valid_from))
        or new.valid_from < old.valid_from
        or (new.valid_from > old.valid_from and new.approved_by is null)
        or (old.valid_to is not null and new.valid_to is null)
        or new.valid_to > old.valid_to
        or (new.valid_to is distinct from old.valid_to and new.valid_to < now())
    then
        raise exception 'entry % of list % can only be approved, once, and end, not in the past',
            old.entry_id, old.list_name using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger list_entries_check before update on list_entries for each row execute function check_list_entry();
create trigger list_entries_keep before delete on list_entries for each row execute function refuse_change();
create trigger list_entries_keep_all before truncate on list_entries execute function refuse_change();
-- The one definition of what is on a list, and when: for serving, replays and backtests.
create view list_members as
select entry_id, list_name, about, value, valid_from, valid_to
from list_entries join lists using (list_name)
where (approved_by is not null or not needs_approval) and valid_to is distinct from valid_from;
"""
JOBS = """
create table backtests (
    backtest_id bigint generated always as identity primary key,
    requested_by text not null check (char_length(requested_by) between 1 and 64),
    requested_at timestamptz not null default now(),
    request jsonb not null,
    state text not null default 'waiting'
        check (state in ('waiting', 'running', 'done', 'failed', 'cancelled')),
    progress real not null default 0 check (progress between 0 and 1),
    message text not null default '', -- what it is doing, or why it failed
    started_at timestamptz,
    finished_at timestamptz,
    report jsonb
);
create index backtests_waiting on backtests (backtest_id) where state in ('waiting', 'running');
create table rule_days (
    day date not null, -- of the payment
    rule_id bigint not null,
    version integer not null,
    state text not null, -- live or shadow, as it was then
    hits bigint not null,
    queue_hits bigint not null,
    amount double precision not null, -- in the reference currency
    expected_frauds double precision not null, -- the sum of the calibrated scores
    matured bigint not null, -- hits whose label would be known by now
    frauds bigint not null,
    primary key (day, rule_id, version, state),
    foreign key (rule_id, version) references rule_versions
);
"""


def upgrade() -> None:
    """Create the tables, empty."""
    for statements in (REFUSALS, RULES, LISTS, JOBS):
        op.execute(statements)
