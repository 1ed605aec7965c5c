/* A statement's answer as the ledger's port shows it. */
#ifndef LEVERET_LEDGER_ROWS_H
#define LEVERET_LEDGER_ROWS_H

#include <libpq-fe.h>

#include "engine/ports.h"

/* Of a result whose rows are text. Valid as long as the result. */
void lvt_rows_of(PGresult *result, struct lvt_rows *ret_rows);

#endif
