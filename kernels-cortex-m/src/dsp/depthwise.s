// Depthwise products of bytes under windows of 3 by 3: see depthwise.rs.
//
// Four channels at a time. Their inputs are widened to halfwords first, `[channel][kernel row][column]`; two of a row are a word, which one
// instruction multiplies with two weights. Two outputs of a row are computed together.

// Words of a frame. The function works on a copy, below which lie the sums of two pixels where these are not rounded here.
.equ W_X, 0
.equ W_ROW, 4
.equ W_WEIGHTS, 8
.equ W_BIAS, 12
.equ W_INTEGERS, 16
.equ W_Y, 20
.equ W_Y_END, 24
.equ W_FULL, 28
.equ W_ALL, 32
.equ W_INTEGER, 36              // beside the next: read together
.equ W_ZERO, 40
.equ W_STEP, 44                 // as above
.equ W_END, 48
.equ W_FIRST, 52
.equ W_OTHER, 56
.equ W_CONTEXT, 60
.equ W_SUMS, 64
.equ W_PIXEL, 72

// A kernel row under two outputs: weights (0, 1) and (1, 2) in a and b.
.macro KINGLET_ROW stride, x, a, b
.if \stride == 1
    ldrd r11, r12, [\x], #4
    smlad r3, r11, \a, r3
    smlatb r4, r11, \a, r4
    smlabt r3, r12, \b, r3
    smlad r4, r12, \b, r4
.else
    ldrd r11, r12, [\x], #8
    smlad r3, r11, \a, r3
    smlabt r3, r12, \b, r3
    smlad r4, r12, \a, r4
    ldr r11, [\x]
    smlabt r4, r11, \b, r4
.endif
.endm

.macro KINGLET_WINDOWS stride
    ldr r3, [sp, #W_FIRST]
    mov r4, r3
    KINGLET_ROW \stride, r0, r9, r10
    KINGLET_ROW \stride, r1, r5, r6
    KINGLET_ROW \stride, r2, r7, r8
.endm

// Rounds by the float in s2, the zero point in memory.
.macro KINGLET_TWO
    vmov s0, s1, r3, r4
    vcvt.f32.s32 s0, s0
    vcvt.f32.s32 s1, s1
    vmul.f32 s0, s0, s2
    vmul.f32 s1, s1, s2
    vcvtr.s32.f32 s0, s0
    vcvtr.s32.f32 s1, s1
    ldr r11, [sp, #W_INTEGER]
    vmov r3, r4, s0, s1
    qadd r3, r3, r11
    qadd r4, r4, r11
    ssat r3, #8, r3
    ssat r4, #8, r4
.endm

// kinglet_depthwise_STRIDE(r0: frame)
.macro KINGLET_DEPTHWISE stride
.section .text.kinglet_depthwise_\stride, "ax", %progbits
.balign 4
.global kinglet_depthwise_\stride
.type kinglet_depthwise_\stride, %function
.thumb_func
kinglet_depthwise_\stride:
    push {r4-r11, lr}
    sub sp, sp, #76
    mov r1, sp
    ldmia r0!, {r4-r11}
    stmia r1!, {r4-r11}
    ldmia r0, {r4-r11}
    stmia r1, {r4-r11}
1:  // A channel. Its weights lie in columns of three and a zero.
    ldr r12, [sp, #W_WEIGHTS]
    ldr r3, [r12, #16]
    ldr r5, [r12, #32]
    ldr r1, [r12], #4
    str r12, [sp, #W_WEIGHTS]
    sxtb16 r2, r1, ror #8
    sxtb16 r4, r3, ror #8
    sxtb16 r6, r5, ror #8
    sxtb16 r1, r1
    sxtb16 r3, r3
    sxtb16 r5, r5
    pkhbt r9, r1, r3, lsl #16
    pkhbt r10, r3, r5, lsl #16
    pkhtb r7, r3, r1, asr #16
    pkhtb r8, r5, r3, asr #16
    pkhbt r5, r2, r4, lsl #16
    pkhbt r6, r4, r6, lsl #16
    ldrd r0, r11, [sp, #W_X]
    add r1, r0, r11
    add r2, r1, r11
    add r12, r2, r11
    str r12, [sp, #W_X]
    ldrd r11, r12, [sp, #W_BIAS]
    ldr r3, [r11], #4
    ldr r4, [r12], #4
    strd r11, r12, [sp, #W_BIAS]
    str r3, [sp, #W_FIRST]
    ldrd r11, r12, [sp, #W_FULL]
    cmp r4, #0
    beq 6f
    str r4, [sp, #W_INTEGER]
    ldr lr, [sp, #W_Y]
    cmp r11, #0
    beq 3f
    add r11, r11, r0
    str r11, [sp, #W_END]
2:
    KINGLET_WINDOWS \stride
    ldrd r11, r12, [sp, #W_INTEGER]
    smmla r3, r3, r11, r12
    smmla r4, r4, r11, r12
    ssat r3, #8, r3, asr #3
    ssat r4, #8, r4, asr #3
    ldrd r11, r12, [sp, #W_STEP]
    strb r3, [lr]
    strb r4, [lr, r11]
    add lr, lr, r11, lsl #1
    cmp r0, r12
    bne 2b
    ldrd r11, r12, [sp, #W_FULL]
3:  // A last pixel alone.
    cmp r11, r12
    beq 4f
    KINGLET_WINDOWS \stride
    ldrd r11, r12, [sp, #W_INTEGER]
    smmla r3, r3, r11, r12
    ssat r3, #8, r3, asr #3
    strb r3, [lr]
4:
    ldrd r11, r12, [sp, #W_Y]
    add r11, r11, #1
    str r11, [sp, #W_Y]
    cmp r11, r12
    bne 1b
    add sp, sp, #76
    pop {r4-r11, pc}
6:  // A channel without an integer: its sums go to the caller's function, if there is one.
.if KINGLET_FPU
    ldr r3, [sp, #W_OTHER]
    cmp r3, #0
    bne 9f
    // Else its float lies as far behind the integer as the context says.
    ldr r3, [sp, #W_INTEGERS]
    ldr r4, [sp, #W_CONTEXT]
    add r3, r3, r4
    vldr s2, [r3, #-4]
    ldr r3, [sp, #W_ZERO]
    asrs r3, r3, #3
    str r3, [sp, #W_INTEGER]
    ldr lr, [sp, #W_Y]
    cmp r11, #0
    beq 5f
    add r11, r11, r0
    str r11, [sp, #W_END]
8:
    KINGLET_WINDOWS \stride
    KINGLET_TWO
    ldrd r11, r12, [sp, #W_STEP]
    strb r3, [lr]
    strb r4, [lr, r11]
    add lr, lr, r11, lsl #1
    cmp r0, r12
    bne 8b
    ldrd r11, r12, [sp, #W_FULL]
5:
    cmp r11, r12
    beq 4b
    KINGLET_WINDOWS \stride
    KINGLET_TWO
    strb r3, [lr]
    b 4b
9:
.endif
    add r12, r12, r0
    str r12, [sp, #W_END]
    mov r12, #0
    str r12, [sp, #W_PIXEL]
7:
    KINGLET_WINDOWS \stride
    strd r3, r4, [sp, #W_SUMS]
    push {r0-r3}
    add r0, sp, #16
    ldr r3, [r0, #W_OTHER]
    blx r3
    pop {r0-r3}
    ldr r12, [sp, #W_PIXEL]
    adds r12, r12, #2
    str r12, [sp, #W_PIXEL]
    ldr r12, [sp, #W_END]
    cmp r0, r12
    bne 7b
    b 4b
.size kinglet_depthwise_\stride, . - kinglet_depthwise_\stride
.endm

KINGLET_DEPTHWISE 1
KINGLET_DEPTHWISE 2

// kinglet_depthwise_taps(r0: frame): one row of any number of taps, by fours. Of the frame "full" are pixels, "all" fours of taps, and "end" bytes of
// inputs from pixel to pixel.
.section .text.kinglet_depthwise_taps, "ax", %progbits
.balign 4
.global kinglet_depthwise_taps
.type kinglet_depthwise_taps, %function
.thumb_func
kinglet_depthwise_taps:
    push {r4-r11, lr}
    sub sp, sp, #76
    mov r1, sp
    ldmia r0!, {r4-r11}
    stmia r1!, {r4-r11}
    ldmia r0, {r4-r11}
    stmia r1, {r4-r11}
1:
    ldrd r0, r11, [sp, #W_X]
    add r12, r0, r11
    str r12, [sp, #W_X]
    ldr r1, [sp, #W_WEIGHTS]
    add r12, r1, #4
    str r12, [sp, #W_WEIGHTS]
    ldrd r11, r12, [sp, #W_BIAS]
    ldr r3, [r11], #4
    ldr r2, [r12], #4
    strd r11, r12, [sp, #W_BIAS]
    str r3, [sp, #W_FIRST]
    ldr lr, [sp, #W_Y]
    ldr r12, [sp, #W_FULL]
2:
    mov r4, r0
    mov r5, r1
    ldr r6, [sp, #W_ALL]
    ldr r3, [sp, #W_FIRST]
3:
    ldr r7, [r5], #16
    sxtb16 r8, r7
    sxtb16 r7, r7, ror #8
    ldr r10, [r4], #4
    ldr r11, [r4], #4
    pkhbt r9, r8, r7, lsl #16
    pkhtb r7, r7, r8, asr #16
    smlad r3, r10, r9, r3
    smlad r3, r11, r7, r3
    subs r6, r6, #1
    bne 3b
    cmp r2, #0
    beq 6f
    ldr r11, [sp, #W_ZERO]
    smmla r3, r3, r2, r11
    ssat r3, #8, r3, asr #3
4:
    strb r3, [lr]
5:
    ldr r11, [sp, #W_STEP]
    add lr, lr, r11
    ldr r11, [sp, #W_END]
    add r0, r0, r11
    subs r12, r12, #1
    bne 2b
    ldrd r11, r12, [sp, #W_Y]
    add r11, r11, #1
    str r11, [sp, #W_Y]
    cmp r11, r12
    bne 1b
    add sp, sp, #76
    pop {r4-r11, pc}
6:
.if KINGLET_FPU
    ldr r11, [sp, #W_OTHER]
    cmp r11, #0
    bne 7f
    ldr r11, [sp, #W_INTEGERS]
    ldr r10, [sp, #W_CONTEXT]
    add r11, r11, r10
    vldr s2, [r11, #-4]
    vmov s0, r3
    vcvt.f32.s32 s0, s0
    vmul.f32 s0, s0, s2
    vcvtr.s32.f32 s0, s0
    ldr r11, [sp, #W_ZERO]
    asr r11, r11, #3
    vmov r3, s0
    qadd r3, r3, r11
    ssat r3, #8, r3
    b 4b
7:
.endif
    strd r3, r3, [sp, #W_SUMS]
    ldr r11, [sp, #W_FULL]
    sub r11, r11, r12
    str r11, [sp, #W_PIXEL]
    push {r0-r3, r12, lr}
    add r0, sp, #24
    ldr r3, [r0, #W_OTHER]
    blx r3
    pop {r0-r3, r12, lr}
    b 5b
.size kinglet_depthwise_taps, . - kinglet_depthwise_taps

// kinglet_planes(r0: first pixel, r1: bytes from pixel to pixel, r2: bytes from channel to channel, r3: where to, stack: pixels): four channels of
// pixels as halfwords, and of zeros up to four pixels
.section .text.kinglet_planes, "ax", %progbits
.balign 4
.global kinglet_planes
.type kinglet_planes, %function
.thumb_func
kinglet_planes:
    push {r4-r11, lr}
    ldr r12, [sp, #36]
1:
    subs r12, r12, #4
    str r12, [sp, #36]
    blt 3f
    ldr r4, [r0]
    ldr r5, [r0, r1]
    add r0, r0, r1, lsl #1
    ldr r6, [r0]
    ldr r7, [r0, r1]
    add r0, r0, r1, lsl #1
2:
    sxtb16 r8, r4
    sxtb16 r9, r5
    sxtb16 r10, r6
    sxtb16 r11, r7
    pkhbt r12, r8, r9, lsl #16
    pkhbt lr, r10, r11, lsl #16
    strd r12, lr, [r3]
    pkhtb r12, r9, r8, asr #16
    pkhtb lr, r11, r10, asr #16
    add r8, r3, r2, lsl #1
    strd r12, lr, [r8]
    sxtb16 r8, r4, ror #8
    sxtb16 r9, r5, ror #8
    sxtb16 r10, r6, ror #8
    sxtb16 r11, r7, ror #8
    add r4, r3, r2
    pkhbt r12, r8, r9, lsl #16
    pkhbt lr, r10, r11, lsl #16
    strd r12, lr, [r4]
    pkhtb r12, r9, r8, asr #16
    pkhtb lr, r11, r10, asr #16
    add r4, r4, r2, lsl #1
    strd r12, lr, [r4]
    adds r3, r3, #8
    ldr r12, [sp, #36]
    cmp r12, #0
    bgt 1b
    pop {r4-r11, pc}
3:  // One to three.
    movs r5, #0
    movs r6, #0
    movs r7, #0
    ldr r4, [r0]
    cmp r12, #-2
    it ge
    ldrge r5, [r0, r1]
    it gt
    ldrgt r6, [r0, r1, lsl #1]
    b 2b
.size kinglet_planes, . - kinglet_planes
