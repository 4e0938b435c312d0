/*
 * A plugin for QEMU that says which blocks of code a function and what it calls execute, each time that it is called.
 *
 *   gcc -O2 -shared -fPIC -o runs.so runs.c
 *   qemu-system-arm -plugin ./runs.so,out=FILE,from=ADDRESS,until=ADDRESS ...
 *
 * counts from the block at `from`, where the function begins, to that at `until`, where it returns to. Writes "run" for each call, and
 * below it "block ADDRESS LENGTH TIMES ON" for each block: its instructions, how often they were executed, and how often the code behind it
 * was executed next, so that no branch was taken. A block that is translated twice has two lines. For programs of one core. The few
 * functions of the plugin interface (version 1, QEMU 5 to 8) are declared here: Debian does not package their header.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tb;
struct insn;
typedef uint64_t id_t_;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id_t_, void (*)(id_t_, struct tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct tb *, void (*)(unsigned, void *), int flags, void *);
extern size_t qemu_plugin_tb_n_insns(const struct tb *);
extern struct insn *qemu_plugin_tb_get_insn(const struct tb *, size_t);
extern uint64_t qemu_plugin_tb_vaddr(const struct tb *);
extern size_t qemu_plugin_insn_size(const struct insn *);
__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct block { uint64_t address, end, length, times, on; struct block *next; };
static struct block *blocks, *previous;
static uint64_t from, until;
static int inside;
static FILE *out;

static void flush(void)
{
    fprintf(out, "run\n");
    for (struct block *b = blocks; b; b = b->next) {
        if (b->times)
            fprintf(out, "block %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->length, b->times, b->on);
        b->times = b->on = 0;
    }
    fflush(out);
}

static void on_block(unsigned cpu, void *data)
{
    (void)cpu;
    struct block *block = data;
    if (!inside) {
        if (block->address != from) return;
        inside = 1;
        previous = NULL;
    } else if (block->address == until) {
        inside = 0;
        flush();
        return;
    }
    if (previous && previous->end == block->address) previous->on++;
    block->times++;
    previous = block;
}

static void on_translation(id_t_ id, struct tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block) abort();
    size_t n = qemu_plugin_tb_n_insns(tb);
    uint64_t end = qemu_plugin_tb_vaddr(tb);
    for (size_t i = 0; i < n; i++) end += qemu_plugin_insn_size(qemu_plugin_tb_get_insn(tb, i));
    *block = (struct block){qemu_plugin_tb_vaddr(tb), end, n, 0, 0, blocks};
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, 0, block);
}

__attribute__((visibility("default"))) int qemu_plugin_install(id_t_ id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
        if (!strncmp(argv[i], "from=", 5)) from = strtoull(argv[i] + 5, NULL, 0);
        if (!strncmp(argv[i], "until=", 6)) until = strtoull(argv[i] + 6, NULL, 0);
    }
    if (!out || !from || !until) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
