/* A shared object, and no plugin. */
int leveret_plugin_entrance(void);

__attribute__((visibility("default"))) int leveret_plugin_entrance(void) {
    return 0;
}
