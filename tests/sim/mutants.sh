#!/bin/bash
# Shows that the simulator can fail: breaks the engine in one place at a time, in a copy, and expects
# the simulator to notice within some ten thousand seeds: tests/sim/mutants.sh [FILTER]
set -u -o pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../lib/common.sh"

SEEDS=1..60000
DIR=$(mktemp -d) || exit
trap 'rm -rf "$DIR"' EXIT

# name | file of core/engine or core/event | Perl's substitution
MUTANTS=$(
    cat <<'END'
ack before the record|settle.c|s/(if \(wants_record\(event\)\) \{)/$1 ack_all(engine, event);/
ack before the publish|settle.c|s/(event->publishing = true;)/$1 ack_all(engine, event);/
a returned publish counts as confirmed|settle.c|s/(result == LVT_PUBLISH_)CONFIRMED/$1RETURNED/
a refused publish counts as confirmed|settle.c|s/(result == LVT_PUBLISH_)CONFIRMED\)/$1CONFIRMED || event->publish.result == LVT_PUBLISH_REFUSED)/
publish without a live delivery|settle.c|s/if \(!any_live\(engine, event\)\)/if (0)/
joined deliveries are not acked|settle.c|s/(also = )event->joined; also; also = also->next\)\n(        engine->broker.ack)/$1NULL; also; also = also->next)\n$2/
an outage costs an attempt|settle.c|s/lvt_outage_met\(engine, event\);/settle_failure(engine, event);/
an outage is over after a while|settle.c|s/event->verdict.service == LVT_SERVICE_NONE/true/
an event runs again before Redis answers|outage.c|s/if \(answer != LVT_ANSWER_OUTAGE\)/if (true)/
what is put off does not say why|message.c|s/if \(event->put_off\)/if (false)/
what is put off runs when it comes back|outage.c|s/event->waits_for != outage->service && //
a shutdown keeps what is held|engine.c|s/lvt_outages_end\(engine\);\n(    engine->to_claim)/$1/
one retry too few|settle.c|s/event->attempt > (lvt_event_retries)/event->attempt >= $1/
one retry too many|settle.c|s/event->attempt > (lvt_event_retries\(event\))/event->attempt > $1 + 1/
delays do not grow|settle.c|s/(lvt_retry_delay\(policy, )event->attempt - 1/${1}0/
delays are a little short|settle.c|s/\.delay_ms = delay_ms\}/.delay_ms = delay_ms * 3 \/ 4}/
a commit's outage counts as done|settle.c|s/if \(result == LVT_TX_OK\) \{/if (result != LVT_TX_ERROR) {/
a commit's outage counts as a duplicate|settle.c|s/if \(result == LVT_TX_DUPLICATE\)\n/if (result != LVT_TX_ERROR)\n/
a commit's error counts as an outage|settle.c|s/if \(result == LVT_TX_ERROR\) \{/if (0) {/
a snooze costs an attempt|settle.c|s/event->run && story != LVT_STORY_NONE/event->run/
a failure costs no attempt|settle.c|s/failed \? event->attempt :/failed ? event->attempt - 1 :/
a retry may be acked by its own confirm|claim.c|s/return \(first->publishing/return false && (false/
a copy is acked by a second try|claim.c|s/ \|\| waits_to_send//
a copy's attempts are forgotten|claim.c|s/else if \(second->attempt > first->attempt\)/else if (false)/
a failure before is forgotten|claim.c|s/first->failed_before = true/first->failed_before = false/
a busy event runs|claim.c|s/case LVT_CLAIM_BUSY:\n/case LVT_CLAIM_BUSY: event->claimed = true; lvt_run_queue(engine, event); break;\n/
a recorded event runs|claim.c|s/case LVT_CLAIM_GOT:/case LVT_CLAIM_GOT: case 77:/; s/switch \(claim->result\)/switch (claim->result == LVT_CLAIM_DUPLICATE ? 77 : (int)claim->result)/
claims outlive their session|engine.c|s/lvt_claims_lost\(ctx\);/;/
a waiting event keeps a lost claim|run.c|s/event->claimed_after != engine->sessions_lost/false/
answers outlive their session|claim.c|s/take_answers\(engine\); .*//
a duplicate keeps the verdict of an outage|claim.c|s/lvt_event_judge\(event, &duplicate\);//
claims are not given up|claim.c|s/if \(event->claimed \|\| event->stage == LVT_STAGE_CLAIMING\)/if (event->stage == LVT_STAGE_CLAIMING)/
an event joins nothing|claim.c|s/struct lvt_event \*first = find\(engine, claim->key\);/struct lvt_event *first = NULL;/
held back deliveries are forgotten|event.c|s/if \(event->held_back\)/if (false)/
handlers start without a session|run.c|s/if \(!engine->ledger.ready\(engine->ledger.self\)\)/if (false)/
one handler too many|run.c|s/handler->running < handler->options.concurrency/handler->running <= handler->options.concurrency/
a busy pool costs an attempt|run.c|s/if \(!run->tx_open && lvt_effects_sql_pending\(run\)\)/if (false)/
a handler's end forgets its statement|run.c|s/if \(lvt_effects_sql_pending\(run\)\)/if (false)/
no timeout|run.c|s/run->timeout.fire = timed_out;/run->timeout.fire = timed_out; if (run->event->attempt == 1) run->timeout.fire = NULL;/; s/if \(!lvt_timer_start\(engine->clock.timers, &run->timeout,\n.*?\)\) \{/if (false) {/s
a failed run keeps its transaction|run.c|s/if \(!commits\(&event->verdict\)\)/if (false)/
a run's answers outlive it|effects.c|s/effect->run = NULL;\n/\n/
more transactions than the pool has|effects.c|s/engine->tx_open >= pool/false/
a begun transaction's duplicate is an outage|effects.c|s/verdict.kind = LVT_VERDICT_DUPLICATE/verdict.kind = LVT_VERDICT_DONE/
a transaction without its record|effects.c|s/run->event->id.len > 0 \? &run->event->claim : NULL/NULL/
an invalidation's outage counts as done|invalidations.c|s/if \(answer != LVT_ANSWER_OUTAGE\)/if (true)/
a publish is told before its confirm|publish.c|s/publish->result == LVT_PUBLISH_CONFIRMED\)/publish->result != LVT_PUBLISH_DROPPED)/
a publish does not wait for its transaction|publish.c|s/ && !run->tx\)/)/; s/\} else if \(run->tx\) \{/} else if (false) {/
a row that nobody takes counts as sent|relay.c|s/(result == LVT_PUBLISH_)CONFIRMED/$1RETURNED/
a row does not wait for the one before|relay.c|s/(struct lvt_outbox_row \*first = )under_way\(engine, row->key\)/$1NULL/
a row goes on after one that was not sent|relay.c|s/result == LVT_OUTBOX_LATER \|\| //
a shutdown starts what arrives|engine.c|s/bool wanted = !engine->draining && /bool wanted = /
a removed handler's events are kept|handlers.c|s/lvt_event_give_back\(engine, event\);/lvt_event_forget(engine, event);/
what arrives for nobody is kept|engine.c|s/bool wanted = !engine->draining && delivery->queue->handler_count > 0/bool wanted = !engine->draining/
a new handler does not count the old one's runs|handlers.c|s/next->running \+= old->running;/;/
events wait for a handler that is gone|handlers.c|s/while \(changes\[i\].old && /while (false && changes[i].old && /
attempts made are not read|decode.c|s/made > ATTEMPTS_MAX \? ATTEMPTS_MAX : \(uint32_t\)made/0/
the origin is forgotten|decode.c|s/event->exchange = header_text.*?;/;/
a message keeps no body|message.c|s/, \.body = delivery->body\}/}/
headers are lost|carry.c|s/(if \(is_history\(header.name\))/$1 || lvt_bytes_is(header.name, "x-app")/
END
)

compile() {
    gcc -std=gnu11 -O1 -w -D_GNU_SOURCE -DLEVERET_VERSION='""' -I"$LVT_ROOT/core" \
        -I"$LVT_ROOT/core/include" -I"$LVT_ROOT/tests/sim" -c "$1" -o "$2"
}

build_all() {
    local source
    for source in "$LVT_ROOT"/core/{base,blackbox,event,engine,config}/*.c \
        "$LVT_ROOT"/core/memory/memory_copy.c "$LVT_ROOT"/tests/sim/*.c; do
        compile "$source" "$DIR/$(basename "${source%/*}")-$(basename "$source" .c).o" || return
    done
}

# try NAME FILE SUBSTITUTION: prints how the simulator takes it; fails when it takes it well.
try() {
    local source object said
    source=$(ls "$LVT_ROOT"/core/{engine,event}/"$2" 2>/dev/null)
    object=$DIR/$(basename "${source%/*}")-${2%.c}.o
    cp "$object" "$DIR/kept"
    perl -0pe "$3" "$source" >"$DIR/$2" || return
    if cmp -s "$DIR/$2" "$source"; then
        lvt_note "$(printf '%-46s does not fit %s any more' "$1" "$2")"
        return 1
    fi
    compile "$DIR/$2" "$object" && gcc -o "$DIR/mutant" "$DIR"/*.o -lnettle -lpthread -lm || return
    said=$(timeout 40 "$DIR/mutant" --seeds $SEEDS 2>&1)
    local code=$?
    cp "$DIR/kept" "$object"
    if [ $code -eq 0 ]; then
        lvt_note "$(printf '%-46s %sNOT FOUND%s' "$1" "$LVT_RED" "$LVT_PLAIN")"
        return 1
    fi
    [ $code -eq 1 ] || said="the program ended with $code"
    lvt_note "$(printf '%-46s %s' "$1" "$(head -n 1 <<<"$said")")"
}

lvt_step "Breaking the engine, one place at a time"
build_all || exit
FAILED=0 TRIED=0
while IFS='|' read -r name file substitution; do
    case $name in *"${1:-}"*) ;; *) continue ;; esac
    TRIED=$((TRIED + 1))
    try "$name" "$file" "$substitution" || FAILED=$((FAILED + 1))
done <<<"$MUTANTS"
lvt_note "$((TRIED - FAILED)) of $TRIED found"
[ $FAILED -eq 0 ]
