/* What the benchmark's C programs share: a blocking connection with one channel. Any error ends the
 * program with a text, for nothing of what they measure would be true afterwards. */
#ifndef LEVERET_BENCH_AMQP_H
#define LEVERET_BENCH_AMQP_H

#include <stdint.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#else
#include <amqp.h>
#endif

amqp_connection_state_t bench_connect(const char *url);
void bench_close(amqp_connection_state_t connection);
/* Ends the program, with what was being done, when the library call before failed. */
void bench_check(int status, const char *what);
void bench_check_reply(amqp_rpc_reply_t reply, const char *what);
double bench_now_s(void);

#endif
