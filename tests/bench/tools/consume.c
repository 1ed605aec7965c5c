/* The ceiling: takes COUNT messages from a queue with rabbitmq-c and does nothing but ack every
 * 50th, multiple. Prints the seconds from the first delivery to the last ack.
 *
 * usage: consume URL QUEUE COUNT PREFETCH */
#include <stdio.h>
#include <stdlib.h>

#include "amqp.h"

#define ACK_EVERY 50

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: %s URL QUEUE COUNT PREFETCH\n", argv[0]);
        return 64;
    }
    amqp_connection_state_t connection = bench_connect(argv[1]);
    unsigned long count = strtoul(argv[3], NULL, 10);
    amqp_basic_qos(connection, 1, 0, (uint16_t)strtoul(argv[4], NULL, 10), 0);
    amqp_basic_consume(connection, 1, amqp_cstring_bytes(argv[2]), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    bench_check_reply(amqp_get_rpc_reply(connection), "consuming");
    double first_s = 0;
    for (unsigned long done = 1; done <= count; done++) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        bench_check_reply(amqp_consume_message(connection, &envelope, NULL, 0), "a delivery");
        if (done == 1)
            first_s = bench_now_s();
        if (done % ACK_EVERY == 0 || done == count)
            bench_check(amqp_basic_ack(connection, 1, envelope.delivery_tag, 1), "an ack");
        amqp_destroy_envelope(&envelope);
    }
    printf("%.6f\n", bench_now_s() - first_s);
    bench_close(connection);
    return 0;
}
