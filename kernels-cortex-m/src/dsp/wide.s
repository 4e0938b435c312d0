// Depthwise products of bytes under windows of any size: see wide.rs.
//
// Of a channel, whose inputs are widened and lie by rows: word k of a row is X(k) = (x[2k], x[2k + 1]). With the weights of a row as A(k) = (w[2k],
// w[2k + 1]) and B(k) = (w[2k - 1], w[2k]), which are 0 beyond both ends, the sums of four pixels side by side are those of A(k) X(k), B(k) X(k),
// A(k) X(k + 1), and B(k) X(k + 1): at a stride of 2 those of two pixels A(k) X(k) and A(k) X(k + 1).

// Words of a frame.
.equ V_X, 0
.equ V_ROW, 4
.equ V_PAIRS, 8                 // beside the next: read together
.equ V_PAIRS_END, 12
.equ V_STEPS, 16
.equ V_BIAS, 20
.equ V_SCALE, 24                // as above
.equ V_ZERO, 28
.equ V_Y, 32                    // as above
.equ V_Y_STEP, 36
.equ V_PIXELS, 40
.equ V_FLOAT, 44

// Most steps of a row.
.equ V_MOST, 8

// A step; the next word of inputs comes to `next`. All instructions are of four bytes: rows begin in the midst of the steps.
.macro KINGLET_WIDE_STEP stride, this, next
    ldr.w \next, [r0], #4
    ldrd r9, r10, [r1], #8
    smlad r3, r10, \this, r3
.if \stride == 1
    smlad r4, r9, \this, r4
    smlad r5, r10, \next, r5
    smlad r6, r9, \next, r6
.else
    smlad r4, r10, \next, r4
.endif
.endm

// Rounds four sums.
.macro KINGLET_WIDE_FLOATS
    vmov s4, r9
    asr r10, r10, #3
    vmov s0, s1, r3, r4
    vmov s2, s3, r5, r6
    vcvt.f32.s32 s0, s0
    vcvt.f32.s32 s1, s1
    vcvt.f32.s32 s2, s2
    vcvt.f32.s32 s3, s3
    vmul.f32 s0, s0, s4
    vmul.f32 s1, s1, s4
    vmul.f32 s2, s2, s4
    vmul.f32 s3, s3, s4
    vcvtr.s32.f32 s0, s0
    vcvtr.s32.f32 s1, s1
    vcvtr.s32.f32 s2, s2
    vcvtr.s32.f32 s3, s3
    vmov r3, r4, s0, s1
    vmov r5, r6, s2, s3
    qadd r3, r3, r10
    qadd r4, r4, r10
    qadd r5, r5, r10
    qadd r6, r6, r10
    ssat r3, #8, r3
    ssat r4, #8, r4
    ssat r5, #8, r5
    ssat r6, #8, r6
.endm

// kinglet_wide_STRIDE(r0: frame)
.macro KINGLET_WIDE stride
.section .text.kinglet_wide_\stride, "ax", %progbits
.balign 4
.global kinglet_wide_\stride
.type kinglet_wide_\stride, %function
.thumb_func
kinglet_wide_\stride:
    push {r4-r11, lr}
    sub sp, sp, #48
    ldm r0!, {r2-r7}
    stm sp, {r2-r7}
    add r1, sp, #24
    ldm r0, {r2-r7}
    stm r1, {r2-r7}
    // Where the steps of a row begin.
    ldr r2, [sp, #V_STEPS]
    rsb r2, r2, #V_MOST
.if \stride == 1
    add r2, r2, r2, lsl #1
    lsls r2, r2, #3
.else
    lsls r2, r2, #4
.endif
    adr.w r11, 3f
    add r11, r11, r2
    orr r11, r11, #1
    ldr r12, [sp, #V_ROW]
1:  // Four pixels or two.
    ldr r2, [sp, #V_X]
    add r3, r2, #8
    str r3, [sp, #V_X]
    ldrd r1, lr, [sp, #V_PAIRS]
    ldr r3, [sp, #V_BIAS]
    mov r4, r3
    mov r5, r3
    mov r6, r3
2:  // A kernel row.
    add r0, r2, #4
    ldr r7, [r2]
    mov r8, r7
    add r2, r2, r12
    bx r11
.balign 4
3:
.rept V_MOST / 2
    KINGLET_WIDE_STEP \stride, r7, r8
    KINGLET_WIDE_STEP \stride, r8, r7
.endr
    cmp r1, lr
    bne.w 2b
    ldrd r9, r10, [sp, #V_SCALE]
.if KINGLET_FPU
    ldr r0, [sp, #V_FLOAT]
    cmp r0, #0
    beq 4f
    KINGLET_WIDE_FLOATS
    b 5f
4:
.endif
    smmla r3, r3, r9, r10
    smmla r4, r4, r9, r10
    ssat r3, #8, r3, asr #3
    ssat r4, #8, r4, asr #3
.if \stride == 1
    smmla r5, r5, r9, r10
    smmla r6, r6, r9, r10
    ssat r5, #8, r5, asr #3
    ssat r6, #8, r6, asr #3
.endif
5:
    ldrd r0, r1, [sp, #V_Y]
    ldr r2, [sp, #V_PIXELS]
    strb r3, [r0]
    cmp r2, #2
    blt 6f
    strb r4, [r0, r1]
.if \stride == 1
    beq 6f
    add r0, r0, r1, lsl #1
    strb r5, [r0]
    cmp r2, #4
    blt 6f
    strb r6, [r0, r1]
.endif
    add r0, r0, r1, lsl #1
    str r0, [sp, #V_Y]
.if \stride == 1
    subs r2, r2, #4
.else
    subs r2, r2, #2
.endif
    str r2, [sp, #V_PIXELS]
    bne.w 1b
6:
    add sp, sp, #48
    pop {r4-r11, pc}
.size kinglet_wide_\stride, . - kinglet_wide_\stride
.endm

KINGLET_WIDE 1
KINGLET_WIDE 2

// A column of weights of four kernel rows, in r6, beside those before, in r8 and r9.
.macro KINGLET_WIDE_COLUMN
    sxtb16 r7, r6, ror #8
    sxtb16 r6, r6
    pkhbt r10, r9, r7, lsl #16
    str r10, [r12, r11]
    pkhbt r10, r8, r6, lsl #16
    str r10, [r12], #4
    pkhtb r10, r7, r9, asr #16
    str r10, [r5, r11]
    pkhtb r10, r6, r8, asr #16
    str r10, [r5], #4
    mov r8, r6
    mov r9, r7
.endm

// kinglet_wide_pairs(r0: weights of a channel, r1: bytes from tap to tap, r2: taps, r3: where to, stack: kernel rows, and bytes of a row there): weights as
// `[kernel row][k](B, A)`, of as many fours of rows as have one
.section .text.kinglet_wide_pairs, "ax", %progbits
.balign 4
.global kinglet_wide_pairs
.type kinglet_wide_pairs, %function
.thumb_func
kinglet_wide_pairs:
    push {r4-r11, lr}
    ldrd lr, r11, [sp, #36]
1:  // Four kernel rows.
    mov r12, r3
    mov r4, r0
    movs r8, #0
    movs r9, #0
    cmp lr, #1
    mov lr, r2
    beq 5f
    add r5, r3, r11, lsl #1
2:
    ldr r6, [r4]
    add r4, r4, r1
    KINGLET_WIDE_COLUMN
    subs lr, lr, #1
    bne 2b
    // Zeros behind the last tap, of an odd number of them one column, else two.
3:
    movs r6, #0
    KINGLET_WIDE_COLUMN
    tst r2, #1
    bne 4f
    movs r6, #0
    KINGLET_WIDE_COLUMN
4:
    ldr lr, [sp, #36]
    subs lr, lr, #4
    ble 7f
    str lr, [sp, #36]
    adds r0, r0, #16
    add r3, r3, r11, lsl #2
    b 1b
5:  // A last row alone.
    ldrsb r6, [r4]
    add r4, r4, r1
    pkhbt r10, r8, r6, lsl #16
    str r10, [r12], #4
    mov r8, r6
    subs lr, lr, #1
    bne 5b
    uxth r10, r8
    str r10, [r12], #4
    tst r2, #1
    it eq
    streq lr, [r12]
7:
    pop {r4-r11, pc}
.size kinglet_wide_pairs, . - kinglet_wide_pairs
