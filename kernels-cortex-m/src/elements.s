// Elements of tensors: see elements.rs.

// The larger of bytes of two runs, into the first: kinglet_larger_KIND(r0: one, r1: the other, r2: bytes, fours of them)
.macro KINGLET_LARGER kind, subtract
.section .text.kinglet_larger_\kind, "ax", %progbits
.balign 4
.global kinglet_larger_\kind
.type kinglet_larger_\kind, %function
.thumb_func
kinglet_larger_\kind:
    push {r4, lr}
1:
    ldr r3, [r0]
    ldr r4, [r1], #4
    \subtract r12, r3, r4
    sel r3, r3, r4
    str r3, [r0], #4
    subs r2, r2, #4
    bne 1b
    pop {r4, pc}
.size kinglet_larger_\kind, . - kinglet_larger_\kind
.endm

KINGLET_LARGER signed, ssub8
KINGLET_LARGER unsigned, usub8

.if KINGLET_FPU

// Reals that bytes stand for: kinglet_reals(r0: scale, zero point negated, what turns bytes to signed ones; r1: bytes, r2: reals, r3: how many, fours of them)
.section .text.kinglet_reals, "ax", %progbits
.balign 4
.global kinglet_reals
.type kinglet_reals, %function
.thumb_func
kinglet_reals:
    push {r4-r9, lr}
    vldr s4, [r0]
    ldrd r8, r9, [r0, #4]
1:
    ldr r4, [r1], #4
    eor r4, r4, r9
    sxtab r5, r8, r4
    sxtab r6, r8, r4, ror #8
    sxtab r7, r8, r4, ror #16
    sxtab r4, r8, r4, ror #24
    vmov s0, s1, r5, r6
    vmov s2, s3, r7, r4
    vcvt.f32.s32 s0, s0
    vcvt.f32.s32 s1, s1
    vcvt.f32.s32 s2, s2
    vcvt.f32.s32 s3, s3
    vmul.f32 s0, s0, s4
    vmul.f32 s1, s1, s4
    vmul.f32 s2, s2, s4
    vmul.f32 s3, s3, s4
    vstmia r2!, {s0-s3}
    subs r3, r3, #4
    bne 1b
    pop {r4-r9, pc}
.size kinglet_reals, . - kinglet_reals

// Bytes for reals: kinglet_bytes(r0: scale, zero point, what turns signed bytes; r1: reals, r2: bytes, r3: how many, fours of them). Stops where one of four is
// no number, or the sum of the four is none; gives how many are done.
.section .text.kinglet_bytes, "ax", %progbits
.balign 4
.global kinglet_bytes
.type kinglet_bytes, %function
.thumb_func
kinglet_bytes:
    push {r4-r9, lr}
    vldr s6, [r0]
    ldrd r8, r9, [r0, #4]
    mov r12, r3
1:
    vldmia r1!, {s0-s3}
    vadd.f32 s4, s0, s1
    vadd.f32 s5, s2, s3
    vadd.f32 s4, s4, s5
    vcmp.f32 s4, s4
    vmrs apsr_nzcv, fpscr
    bvs 2f
    vdiv.f32 s0, s0, s6
    vdiv.f32 s1, s1, s6
    vdiv.f32 s2, s2, s6
    vdiv.f32 s3, s3, s6
    vcvtr.s32.f32 s0, s0
    vcvtr.s32.f32 s1, s1
    vcvtr.s32.f32 s2, s2
    vcvtr.s32.f32 s3, s3
    vmov r4, r5, s0, s1
    vmov r6, r7, s2, s3
    qadd r4, r4, r8
    qadd r5, r5, r8
    qadd r6, r6, r8
    qadd r7, r7, r8
    ssat r4, #8, r4
    ssat r5, #8, r5
    ssat r6, #8, r6
    ssat r7, #8, r7
    pkhbt r4, r4, r6, lsl #16
    pkhbt r5, r5, r7, lsl #16
    uxtb16 r4, r4
    uxtb16 r5, r5
    orr r4, r4, r5, lsl #8
    eor r4, r4, r9
    str r4, [r2], #4
    subs r3, r3, #4
    bne 1b
2:
    sub r0, r12, r3
    pop {r4-r9, pc}
.size kinglet_bytes, . - kinglet_bytes

// Eight products and sums, each rounded. (What multiplies and adds at once would not be the same.)
.macro KINGLET_MEMORY_COLUMN m, s0, s1, s2, s3, s4, s5, s6, s7
    vldmia r0!, {s16-s23}
    vmla.f32 \s0, s16, \m
    vmla.f32 \s1, s17, \m
    vmla.f32 \s2, s18, \m
    vmla.f32 \s3, s19, \m
    vmla.f32 \s4, s20, \m
    vmla.f32 \s5, s21, \m
    vmla.f32 \s6, s22, \m
    vmla.f32 \s7, s23, \m
.endm

// Eight elements of a Legendre memory: kinglet_memory(r0: A, [column][8], r1: memory, r2: columns, r3: where to, stack: B, and the input)
.section .text.kinglet_memory, "ax", %progbits
.balign 4
.global kinglet_memory
.type kinglet_memory, %function
.thumb_func
kinglet_memory:
    push {r4, lr}
    vpush {s16-s25}
    movs r4, #0
.irp s, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15
    vmov \s, r4
.endr
    lsrs r4, r2, #1
    beq 2f
1:
    vldmia r1!, {s24-s25}
    KINGLET_MEMORY_COLUMN s24, s0, s1, s2, s3, s4, s5, s6, s7
    KINGLET_MEMORY_COLUMN s25, s8, s9, s10, s11, s12, s13, s14, s15
    subs r4, r4, #1
    bne 1b
2:
    tst r2, #1
    beq 3f
    vldr s24, [r1]
    KINGLET_MEMORY_COLUMN s24, s0, s1, s2, s3, s4, s5, s6, s7
3:
    vadd.f32 s0, s0, s8
    vadd.f32 s1, s1, s9
    vadd.f32 s2, s2, s10
    vadd.f32 s3, s3, s11
    vadd.f32 s4, s4, s12
    vadd.f32 s5, s5, s13
    vadd.f32 s6, s6, s14
    vadd.f32 s7, s7, s15
    ldr r0, [sp, #48]
    vldr s24, [sp, #52]
    KINGLET_MEMORY_COLUMN s24, s0, s1, s2, s3, s4, s5, s6, s7
    vstmia r3, {s0-s7}
    vpop {s16-s25}
    pop {r4, pc}
.size kinglet_memory, . - kinglet_memory
.endif
