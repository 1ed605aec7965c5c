#include "broker/inbox.h"

void lvt_delivery_list_add(struct lvt_delivery_list *list, struct lvt_delivery *delivery) {
    delivery->next = NULL;
    if (list->last) {
        list->last->next = delivery;
    } else {
        list->first = delivery;
    }
    list->last = delivery;
}

void lvt_delivery_list_free(struct lvt_delivery_list *list) {
    while (list->first) {
        struct lvt_delivery *next = list->first->next;
        lvt_delivery_free(list->first);
        list->first = next;
    }
    list->last = NULL;
}

void lvt_publish_list_add(struct lvt_publish_list *list, struct lvt_publish *publish) {
    publish->next = NULL;
    if (list->last) {
        list->last->next = publish;
    } else {
        list->first = publish;
    }
    list->last = publish;
}

void lvt_publish_list_join(struct lvt_publish_list *list, struct lvt_publish_list *more) {
    if (!more->first) {
        return;
    }
    if (list->last) {
        list->last->next = more->first;
    } else {
        list->first = more->first;
    }
    list->last = more->last;
    *more = (struct lvt_publish_list){0};
}

void lvt_inbox_init(struct lvt_inbox *inbox, void (*wake)(void *ctx), void *wake_ctx) {
    *inbox = (struct lvt_inbox){.wake = wake, .wake_ctx = wake_ctx};
    pthread_mutex_init(&inbox->mutex, NULL);
}

void lvt_inbox_free(struct lvt_inbox *inbox) {
    lvt_delivery_list_free(&inbox->deliveries);
    pthread_mutex_destroy(&inbox->mutex);
}

static bool is_empty(const struct lvt_inbox *inbox) {
    return !inbox->deliveries.first && !inbox->answers.first;
}

void lvt_inbox_deliver(struct lvt_inbox *inbox, struct lvt_delivery_list *list) {
    if (!list->first) {
        return;
    }
    pthread_mutex_lock(&inbox->mutex);
    bool wake = is_empty(inbox);
    if (inbox->deliveries.last) {
        inbox->deliveries.last->next = list->first;
    } else {
        inbox->deliveries.first = list->first;
    }
    inbox->deliveries.last = list->last;
    pthread_mutex_unlock(&inbox->mutex);
    *list = (struct lvt_delivery_list){0};
    if (wake) {
        inbox->wake(inbox->wake_ctx);
    }
}

void lvt_inbox_answer(struct lvt_inbox *inbox, struct lvt_publish_list *list) {
    if (!list->first) {
        return;
    }
    pthread_mutex_lock(&inbox->mutex);
    bool wake = is_empty(inbox);
    lvt_publish_list_join(&inbox->answers, list);
    pthread_mutex_unlock(&inbox->mutex);
    if (wake) {
        inbox->wake(inbox->wake_ctx);
    }
}

void lvt_inbox_take(struct lvt_inbox *inbox, struct lvt_delivery_list *ret_deliveries,
                    struct lvt_publish_list *ret_answers) {
    pthread_mutex_lock(&inbox->mutex);
    *ret_deliveries = inbox->deliveries;
    *ret_answers = inbox->answers;
    inbox->deliveries = (struct lvt_delivery_list){0};
    inbox->answers = (struct lvt_publish_list){0};
    pthread_mutex_unlock(&inbox->mutex);
}
