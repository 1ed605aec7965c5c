/* Handlers that change, go and come back while events flow. */
#include <stdio.h>

#include "sim.h"

static struct lvt_handler *find_handler(const struct sim_worker *worker, unsigned index) {
    const struct lvt_routes *routes = &worker->routes;
    for (size_t i = 0; i < routes->handler_count; i++)
        if (strcmp(routes->handlers[i]->name, worker->sim->plans[index].name) == 0)
            return routes->handlers[i];
    return NULL;
}

static void change(struct sim_worker *worker, const struct lvt_handler_change *changes,
                   size_t count) {
    struct leveret_error err;
    if (lvt_engine_change_handlers(worker->engine, changes, count, &err) != LEVERET_OK)
        sim_fail(worker->sim, "worker %u cannot change its handlers: %s", worker->index, err.text);
    sim_worker_wake(worker);
}

static bool may_change(const struct sim_worker *worker) {
    return !worker->stopping && worker->paused_until_ms <= worker->sim->now_ms;
}

void sim_reload_one(struct sim_worker *worker) {
    unsigned index = sim_below(worker->sim, worker->sim->handler_count);
    struct lvt_handler_change one = {.old = find_handler(worker, index)};
    if (!one.old || !may_change(worker))
        return;
    SIM_SAY(worker->sim, "worker %u: the handler %s changes", worker->index,
            worker->sim->plans[index].name);
    one.next = sim_handler_new(worker, index);
    change(worker, &one, 1);
}

void sim_reload_restore(struct sim *sim, struct sim_worker *worker, uint64_t queue, uint64_t b) {
    struct lvt_handler_change changes[SIM_HANDLERS_MAX];
    size_t count = 0;
    (void)b;
    if (worker->stopping || !worker->link.not_consumed[queue])
        return;
    for (unsigned i = 0; i < sim->handler_count; i++)
        if (sim->plans[i].queue == queue)
            changes[count++] = (struct lvt_handler_change){.next = sim_handler_new(worker, i)};
    SIM_SAY(sim, "worker %u: the handlers of q%u are back", worker->index, (unsigned)queue);
    change(worker, changes, count);
    worker->link.not_consumed[queue] = false;
    sim_broker_dispatch_soon(sim);
}

void sim_reload_remove(struct sim_worker *worker) {
    struct sim *sim = worker->sim;
    struct lvt_handler_change changes[SIM_HANDLERS_MAX];
    size_t count = 0;
    unsigned queue = sim_below(sim, sim->queue_count);
    if (!may_change(worker) || worker->link.not_consumed[queue])
        return;
    for (unsigned i = 0; i < sim->handler_count; i++) {
        if (sim->plans[i].queue != queue)
            continue;
        worker->unlimited[i] = worker->running[i] > 0;
        changes[count++] = (struct lvt_handler_change){.old = find_handler(worker, i)};
    }
    SIM_SAY(sim, "worker %u: the handlers of q%u go", worker->index, queue);
    change(worker, changes, count);
    worker->link.not_consumed[queue] = true;
    sim_after_for(worker, sim_below(sim, 2000), sim_reload_restore, queue, 0);
}
