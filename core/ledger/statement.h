/* What a handler's statement is about, as far as its transaction and its connection must know. */
#ifndef LEVERET_LEDGER_STATEMENT_H
#define LEVERET_LEDGER_STATEMENT_H

#include "engine/ports.h"

/* Why a statement is not even sent; NULL when it may be. */
const char *lvt_statement_objection(const struct lvt_sql *sql);
/* A SET for the transaction alone. */
bool lvt_statement_is_local_setting(struct lvt_bytes sql);
/* By the server's tag of an answer: whether the session is no more as the next transaction must
 * find it, unless the statement was a local setting. */
bool lvt_statement_changes_session(const char *tag);

#endif
