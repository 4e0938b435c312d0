// Depthwise products of bytes under windows of 3 by 3, of few pixels (depthwise.rs), and under windows along time (frames.rs).

// Four channels at a time, whose inputs are multiplied where they lie: to take them apart by channels would cost more.
//
// kinglet_depthwise_few(r0: frame)
//
// The function works on a copy of the frame, which is that of the next four channels.
.equ F_WEIGHTS, 0
.equ F_BIAS, 4
.equ F_SCALES, 8                // beside the next: set together
.equ F_ZERO, 12
.equ F_Y_STEP, 16
.equ F_Y_END, 20                // beside the next
.equ F_Y, 24
.equ F_STEP, 28
.equ F_ROWS, 32                 // three, and the bytes from tap to tap
.equ F_FLOATS, 48               // not 0: the scales are floats
.equ F_PACKED, 52
.equ F_INTEGERS, 56
.equ F_DISTANCE, 60
.equ F_ADDEND, 64
.equ F_GROUPS, 68

// Four channels of a tap, whose inputs are in r9.
.macro KINGLET_CHANNELS a, b
    sxtb16 r10, r9, ror #8
    sxtb16 r9, r9
    smlabb r5, r9, \a, r5
    smlatt r7, r9, \a, r7
    smlabb r6, r10, \b, r6
    smlatt r8, r10, \b, r8
.endm

// A tap: weights of the channels (0, 2) and (1, 3) from r4 on.
.macro KINGLET_TAP at:vararg
    ldr r9, \at
    ldrd r11, r12, [r4], #8
    KINGLET_CHANNELS r11, r12
.endm

.macro KINGLET_TAPS_OF row
    KINGLET_TAP [\row]
    KINGLET_TAP [\row, r3]
    KINGLET_TAP [\row, r3, lsl #1]
.endm

// A column of the weights of four channels, three rows and a zero each.
.macro KINGLET_COLUMN column
    ldm r0!, {r1-r4}
    sxtb16 r5, r1
    sxtb16 r6, r2
    sxtb16 r7, r3
    sxtb16 r8, r4
    sxtb16 r1, r1, ror #8
    sxtb16 r2, r2, ror #8
    sxtb16 r3, r3, ror #8
    sxtb16 r4, r4, ror #8
    pkhbt r9, r5, r7, lsl #16
    pkhbt r10, r6, r8, lsl #16
    strd r9, r10, [r12, #8 * \column]
    pkhbt r9, r1, r3, lsl #16
    pkhbt r10, r2, r4, lsl #16
    strd r9, r10, [r12, #8 * \column + 24]
    pkhtb r9, r7, r5, asr #16
    pkhtb r10, r8, r6, asr #16
    strd r9, r10, [r12, #8 * \column + 48]
.endm

// Rounds by a float.
.macro KINGLET_BY_FLOAT sum, scale
    vmov s0, \sum
    vmov s1, \scale
    vcvt.f32.s32 s0, s0
    vmul.f32 s0, s0, s1
    vcvtr.s32.f32 s0, s0
    vmov \sum, s0
    qadd \sum, \sum, r4
    ssat \sum, #8, \sum
.endm

// The sums of four channels to signed bytes: by integers, or by floats; the addend or the zero point is in r4.
.macro KINGLET_BY_INTEGERS
    smmla r5, r5, r9, r4
    smmla r6, r6, r10, r4
    smmla r7, r7, r11, r4
    smmla r8, r8, r12, r4
    ssat r5, #8, r5, asr #3
    ssat r6, #8, r6, asr #3
    ssat r7, #8, r7, asr #3
    ssat r8, #8, r8, asr #3
.endm
.macro KINGLET_BY_FLOATS
    KINGLET_BY_FLOAT r5, r9
    KINGLET_BY_FLOAT r6, r10
    KINGLET_BY_FLOAT r7, r11
    KINGLET_BY_FLOAT r8, r12
.endm

// Four bytes in r5.
.macro KINGLET_PACK
    bfi r5, r6, #8, #8
    bfi r5, r7, #16, #8
    bfi r5, r8, #24, #8
.endm

.section .text.kinglet_depthwise_few, "ax", %progbits
.balign 4
.global kinglet_depthwise_few
.type kinglet_depthwise_few, %function
.thumb_func
kinglet_depthwise_few:
    push {r4-r11, lr}
    sub sp, sp, #72
    mov r1, sp
    ldmia r0!, {r2-r10}
    stmia r1!, {r2-r10}
    ldmia r0, {r2-r10}
    stmia r1, {r2-r10}
1:  // Four channels.
    ldr r12, [sp, #F_WEIGHTS]
    ldr r0, [sp, #F_PACKED]
    KINGLET_COLUMN 0
    KINGLET_COLUMN 1
    KINGLET_COLUMN 2
    str r0, [sp, #F_PACKED]
    ldr r4, [sp, #F_INTEGERS]
    ldr r6, [sp, #F_ADDEND]
    movs r5, #0
.if KINGLET_FPU
    ldm r4, {r7-r10}
    cmp r7, #0
    ittt ne
    cmpne r8, #0
    cmpne r9, #0
    cmpne r10, #0
    bne 2f
    // One has no integer: by the floats, which lie so far behind the integers.
    ldr r5, [sp, #F_DISTANCE]
    add r4, r4, r5
    asrs r6, r6, #3
    movs r5, #1
2:
.endif
    strd r4, r6, [sp, #F_SCALES]
    str r5, [sp, #F_FLOATS]
    ldr lr, [sp, #F_Y]
    add r0, sp, #F_ROWS
    ldm r0, {r0-r3}
3:
    ldrd r4, r9, [sp, #F_WEIGHTS]
    ldm r9, {r5-r8}
    KINGLET_TAPS_OF r0
    KINGLET_TAPS_OF r1
    KINGLET_TAPS_OF r2
    ldr r9, [sp, #F_STEP]
    add r0, r0, r9
    add r1, r1, r9
    add r2, r2, r9
    ldr r4, [sp, #F_SCALES]
    ldm r4, {r9-r12}
.if KINGLET_FPU
    ldr r4, [sp, #F_FLOATS]
    cmp r4, #0
    ldr r4, [sp, #F_ZERO]
    bne 5f
.else
    ldr r4, [sp, #F_ZERO]
.endif
    KINGLET_BY_INTEGERS
4:
    KINGLET_PACK
    ldrd r9, r10, [sp, #F_Y_STEP]
    str r5, [lr]
    add lr, lr, r9
    cmp lr, r10
    bne 3b
    ldr r4, [sp, #F_GROUPS]
    subs r4, r4, #1
    beq 6f
    str r4, [sp, #F_GROUPS]
    ldrd r4, r5, [sp, #F_Y_END]
    adds r4, r4, #4
    adds r5, r5, #4
    strd r4, r5, [sp, #F_Y_END]
    add r0, sp, #F_ROWS
    ldm r0, {r4-r6}
    adds r4, r4, #4
    adds r5, r5, #4
    adds r6, r6, #4
    stm r0, {r4-r6}
    ldr r4, [sp, #F_BIAS]
    ldr r5, [sp, #F_INTEGERS]
    adds r4, r4, #16
    adds r5, r5, #16
    str r4, [sp, #F_BIAS]
    str r5, [sp, #F_INTEGERS]
    b 1b
.if KINGLET_FPU
5:
    KINGLET_BY_FLOATS
    b 4b
.endif
6:
    add sp, sp, #72
    pop {r4-r11, pc}
.size kinglet_depthwise_few, . - kinglet_depthwise_few

// Under a window along time of any number of taps, likewise: kinglet_depthwise_frames(r0: frame)
.equ T_WEIGHTS, 0
.equ T_BIAS, 4
.equ T_SCALES, 8                // beside the next: set together
.equ T_ZERO, 12
.equ T_X, 16
.equ T_TAP_STEP, 20             // beside the next: read together
.equ T_TAPS, 24
.equ T_STEP, 28
.equ T_Y, 32
.equ T_Y_STEP, 36               // beside the next
.equ T_PIXELS, 40
.equ T_FLOATS, 44
.equ T_PACKED, 48
.equ T_INTEGERS, 52
.equ T_DISTANCE, 56
.equ T_ADDEND, 60
.equ T_GROUPS, 64
.equ T_X_NOW, 68
.equ T_Y_NOW, 72                // beside the next
.equ T_LEFT, 76

.section .text.kinglet_depthwise_frames, "ax", %progbits
.balign 4
.global kinglet_depthwise_frames
.type kinglet_depthwise_frames, %function
.thumb_func
kinglet_depthwise_frames:
    push {r4-r11, lr}
    sub sp, sp, #84
    mov r1, sp
    ldmia r0!, {r2-r10}
    stmia r1!, {r2-r10}
    ldmia r0, {r2-r9}
    stmia r1, {r2-r9}
1:  // Four channels. Their weights lie in fours of taps, which become taps of four channels.
    ldr r12, [sp, #T_WEIGHTS]
    ldr r0, [sp, #T_PACKED]
    ldr lr, [sp, #T_TAPS]
2:
    ldm r0!, {r1-r4}
    sxtb16 r5, r1
    sxtb16 r6, r2
    sxtb16 r7, r3
    sxtb16 r8, r4
    sxtb16 r1, r1, ror #8
    sxtb16 r2, r2, ror #8
    sxtb16 r3, r3, ror #8
    sxtb16 r4, r4, ror #8
    pkhbt r9, r5, r7, lsl #16
    pkhbt r10, r6, r8, lsl #16
    strd r9, r10, [r12], #8
    pkhbt r9, r1, r3, lsl #16
    pkhbt r10, r2, r4, lsl #16
    strd r9, r10, [r12], #8
    pkhtb r9, r7, r5, asr #16
    pkhtb r10, r8, r6, asr #16
    strd r9, r10, [r12], #8
    pkhtb r9, r3, r1, asr #16
    pkhtb r10, r4, r2, asr #16
    strd r9, r10, [r12], #8
    subs lr, lr, #4
    bgt 2b
    str r0, [sp, #T_PACKED]
    ldr r4, [sp, #T_INTEGERS]
    ldr r6, [sp, #T_ADDEND]
    movs r5, #0
.if KINGLET_FPU
    ldm r4, {r7-r10}
    cmp r7, #0
    ittt ne
    cmpne r8, #0
    cmpne r9, #0
    cmpne r10, #0
    bne 3f
    ldr r5, [sp, #T_DISTANCE]
    add r4, r4, r5
    asrs r6, r6, #3
    movs r5, #1
3:
.endif
    strd r4, r6, [sp, #T_SCALES]
    str r5, [sp, #T_FLOATS]
    ldr r0, [sp, #T_X]
    ldr r1, [sp, #T_Y]
    ldr r2, [sp, #T_PIXELS]
    str r0, [sp, #T_X_NOW]
    strd r1, r2, [sp, #T_Y_NOW]
4:  // A pixel.
    ldrd r4, r9, [sp, #T_WEIGHTS]
    ldm r9, {r5-r8}
    ldr r0, [sp, #T_X_NOW]
    ldrd r3, lr, [sp, #T_TAP_STEP]
    lsrs lr, lr, #1
    bcc 5f
    // Of an odd number of taps the first by itself.
    ldr r9, [r0]
    ldrd r11, r12, [r4], #8
    add r0, r0, r3
    KINGLET_CHANNELS r11, r12
    cmp lr, #0
    beq 10f
5:
    ldm r4!, {r1, r2, r11, r12}
    ldr r9, [r0]
    KINGLET_CHANNELS r1, r2
    ldr r9, [r0, r3]
    add r0, r0, r3, lsl #1
    KINGLET_CHANNELS r11, r12
    subs lr, lr, #1
    bne 5b
10:
    ldr r4, [sp, #T_SCALES]
    ldm r4, {r9-r12}
.if KINGLET_FPU
    ldr r4, [sp, #T_FLOATS]
    cmp r4, #0
    ldr r4, [sp, #T_ZERO]
    bne 8f
.else
    ldr r4, [sp, #T_ZERO]
.endif
    KINGLET_BY_INTEGERS
6:
    KINGLET_PACK
    ldrd r0, r2, [sp, #T_Y_NOW]
    str r5, [r0]
    subs r2, r2, #1
    beq 7f
    ldr r1, [sp, #T_Y_STEP]
    add r0, r0, r1
    strd r0, r2, [sp, #T_Y_NOW]
    ldr r0, [sp, #T_X_NOW]
    ldr r1, [sp, #T_STEP]
    add r0, r0, r1
    str r0, [sp, #T_X_NOW]
    b 4b
7:  // The next four channels.
    ldr r4, [sp, #T_GROUPS]
    subs r4, r4, #1
    beq 9f
    str r4, [sp, #T_GROUPS]
    ldr r4, [sp, #T_X]
    ldr r5, [sp, #T_Y]
    ldr r6, [sp, #T_BIAS]
    ldr r7, [sp, #T_INTEGERS]
    adds r4, r4, #4
    adds r5, r5, #4
    adds r6, r6, #16
    adds r7, r7, #16
    str r4, [sp, #T_X]
    str r5, [sp, #T_Y]
    str r6, [sp, #T_BIAS]
    str r7, [sp, #T_INTEGERS]
    b 1b
.if KINGLET_FPU
8:
    KINGLET_BY_FLOATS
    b 6b
.endif
9:
    add sp, sp, #84
    pop {r4-r11, pc}
.size kinglet_depthwise_frames, . - kinglet_depthwise_frames
