/* What other threads want done on the loop's. */
#include "engine/state.h"

void lvt_engine_post(struct lvt_engine *engine, struct lvt_letter *letter) {
    pthread_mutex_lock(&engine->post_lock);
    if (!letter->posted) {
        letter->posted = true;
        letter->next = engine->letters;
        engine->letters = letter;
        /* Under the lock: whoever takes the letter, and then closes the loop, comes after it. */
        if (engine->options.wake)
            engine->options.wake(engine->options.wake_ctx);
    }
    pthread_mutex_unlock(&engine->post_lock);
}

void lvt_engine_unpost(struct lvt_engine *engine, struct lvt_letter *letter) {
    pthread_mutex_lock(&engine->post_lock);
    struct lvt_letter **at = &engine->letters;
    while (*at && *at != letter)
        at = &(*at)->next;
    if (*at)
        *at = letter->next;
    letter->posted = false;
    pthread_mutex_unlock(&engine->post_lock);
}

static struct lvt_letter *take(struct lvt_engine *engine) {
    pthread_mutex_lock(&engine->post_lock);
    struct lvt_letter *letter = engine->letters;
    if (letter) {
        engine->letters = letter->next;
        letter->posted = false;
    }
    pthread_mutex_unlock(&engine->post_lock);
    return letter;
}

void lvt_post_step(struct lvt_engine *engine) {
    struct lvt_letter *letter;
    while ((letter = take(engine)))
        letter->deliver(letter);
}
