/*
 * A plugin for QEMU's user mode that counts the instructions a program executes, and those of them that multiply vectors.
 *
 *   gcc -O2 -shared -fPIC -o count.so count.c
 *   qemu-aarch64 -plugin ./count.so,out=FILE PROGRAM ...
 *
 * writes "all N" and "products N" when the program ends, and with blocks=on "block ADDRESS LENGTH TIMES" for each block of code (one
 * that is translated twice has two lines). Exact for programs of one thread. The few functions of the plugin interface
 * (version 1, QEMU 5 to 8) are declared here: Debian does not package their header.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tb;
struct insn;
typedef uint64_t id_t_;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id_t_, void (*)(id_t_, struct tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct tb *, int op, void *counter, uint64_t add);
extern void qemu_plugin_register_atexit_cb(id_t_, void (*)(id_t_, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct tb *);
extern struct insn *qemu_plugin_tb_get_insn(const struct tb *, size_t);
extern uint64_t qemu_plugin_tb_vaddr(const struct tb *);
extern const void *qemu_plugin_insn_data(const struct insn *);
__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t all, products;
static const char *path;

struct block { uint64_t address, length, times; struct block *next; };
static struct block *blocks;
static int want_blocks;

/* What multiplies vectors: value under mask, as the Arm architecture's tables of encodings have them. */
static const uint32_t MULTIPLIES[][2] = {
    {0x9FE0FC00, 0x0E809400}, /* sdot, udot */
    {0x9FC0F400, 0x0F80E000}, /* the same by element */
    {0xDFE0FC00, 0x4E80A400}, /* smmla, ummla */
    {0x9F20DC00, 0x0E208000}, /* smlal, umlal and kin */
    {0x9F20FC00, 0x0E20C000}, /* smull, umull */
    {0xBFA0FC00, 0x0E20CC00}, /* fmla */
    {0xBF80F400, 0x0F801000}, /* the same by element */
    {0xBFE0FC00, 0x0E400C00}, /* fmla of halves */
    {0xBFC0F400, 0x0F001000}, /* the same by element */
};

static int multiplies(uint32_t word)
{
    for (size_t i = 0; i < sizeof MULTIPLIES / sizeof *MULTIPLIES; i++)
        if ((word & MULTIPLIES[i][0]) == MULTIPLIES[i][1]) return 1;
    return 0;
}

static void on_block(id_t_ id, struct tb *tb)
{
    (void)id;
    size_t n = qemu_plugin_tb_n_insns(tb);
    uint64_t these = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof word);
        these += multiplies(word);
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &all, n);
    if (these) qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &products, these);
    struct block *block = want_blocks ? calloc(1, sizeof *block) : NULL;
    if (!block) return;
    *block = (struct block){qemu_plugin_tb_vaddr(tb), n, 0, blocks};
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &block->times, 1);
}

static void on_end(id_t_ id, void *nothing)
{
    (void)id, (void)nothing;
    FILE *out = path ? fopen(path, "w") : stderr;
    if (!out) return;
    fprintf(out, "all %" PRIu64 "\nproducts %" PRIu64 "\n", all, products);
    for (struct block *b = blocks; b; b = b->next)
        if (b->times) fprintf(out, "block %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->length, b->times);
    if (path) fclose(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(id_t_ id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4)) path = strdup(argv[i] + 4);
        if (!strcmp(argv[i], "blocks=on")) want_blocks = 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
