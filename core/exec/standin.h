/* Services that do nothing, and answer so that most handlers go on: statements find no row and
 * affect one, Redis holds nothing and takes everything, no key fits a pattern, and every HTTP
 * request gets a 200 with an empty body. */
#ifndef LEVERET_EXEC_STANDIN_H
#define LEVERET_EXEC_STANDIN_H

#include "base/error.h"
#include "engine/ports.h"

struct lvt_standin;

/* LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_standin_new(struct lvt_standin **ret_standin,
                                  struct leveret_error *err) LVT_MUST_CHECK;
/* What was asked for and not answered never is. NULL is fine. */
void lvt_standin_free(struct lvt_standin *standin);

/* Only transactions without a claim are asked of its ledger. */
struct lvt_ledger_port lvt_standin_ledger(struct lvt_standin *standin);
struct lvt_cache_port lvt_standin_cache(struct lvt_standin *standin);
struct lvt_http_port lvt_standin_http(struct lvt_standin *standin);

/* Hands all answers to their askers. */
void lvt_standin_poll(struct lvt_standin *standin);
/* Whether poll has something to hand over. */
bool lvt_standin_pending(const struct lvt_standin *standin);

#endif
