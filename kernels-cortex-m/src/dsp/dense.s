// Products of bytes whose weights lie by pairs of channels, four inputs of each: see dense.rs.
//
// A tile is N pixels of all pairs of channels. Its inputs are widened to halfwords first, `[k / 4][pixel]` of two words each: inputs 0 and 2, inputs
// 1 and 3, in which order `sxtb16` also takes weights apart.

// Words of a frame. The function works on a copy, below which lie the sums of a pair where these are not rounded here.
.equ K_PANEL, 0
.equ K_Y, 4
.equ K_STEP, 8                  // beside the next: read together
.equ K_ZERO, 12
.equ K_Y_END, 16
.equ K_PANEL_END, 20
.equ K_ENTRY, 24
.equ K_BIAS, 28
.equ K_INTEGERS, 32
.equ K_OTHER, 36
.equ K_CONTEXT, 40
.equ K_WEIGHTS, 44
.equ K_SUMS, 48

.macro KINGLET_PIXEL a, b
    ldrd r6, r7, [r0], #8
    smlad \a, r6, r4, \a
    smlad \b, r6, r5, \b
    smlad \a, r7, r2, \a
    smlad \b, r7, r3, \b
.endm

.macro KINGLET_ROUND q, m
    smmla \q, \q, \m, r6
    ssat \q, #8, \q, asr #3
.endm

.macro KINGLET_FLOAT q, m
    vcvt.f32.s32 \q, \q
    vmul.f32 \q, \q, \m
    vcvtr.s32.f32 \q, \q
.endm

.macro KINGLET_BYTE q
    qadd \q, \q, r6
    ssat \q, #8, \q
.endm

// kinglet_dense_N(r0: frame, r1: weights of the first pair)
.macro KINGLET_DENSE n
.section .text.kinglet_dense_\n, "ax", %progbits
.balign 4
.global kinglet_dense_\n
.type kinglet_dense_\n, %function
.thumb_func
kinglet_dense_\n:
    push {r4-r11, lr}
    sub sp, sp, #32
    ldmia r0, {r2-r12}
    push {r2-r12}
1:  // A pair of channels: all sums begin from the bias.
    ldr r2, [sp, #K_BIAS]
    ldrd r8, r9, [r2], #8
    str r2, [sp, #K_BIAS]
    ldr r0, [sp, #K_PANEL]
.if \n > 1
    mov r10, r8
    mov r11, r9
.endif
.if \n > 2
    mov r12, r8
    mov lr, r9
.endif
    ldr pc, [sp, #K_ENTRY]
.global kinglet_dense_\n\()_steps
kinglet_dense_\n\()_steps:
2:
.rept 8
    ldrd r2, r3, [r1], #8
    sxtb16 r4, r2
    sxtb16 r5, r3
    sxtb16 r2, r2, ror #8
    sxtb16 r3, r3, ror #8
    KINGLET_PIXEL r8, r9
.if \n > 1
    KINGLET_PIXEL r10, r11
.endif
.if \n > 2
    KINGLET_PIXEL r12, lr
.endif
.endr
.global kinglet_dense_\n\()_end
kinglet_dense_\n\()_end:
    ldr r6, [sp, #K_PANEL_END]
    cmp r0, r6
    bne 2b
    ldr r6, [sp, #K_INTEGERS]
    ldrd r2, r3, [r6], #8
    str r6, [sp, #K_INTEGERS]
    ldr r4, [sp, #K_Y]
    cmp r2, #0
    it ne
    cmpne r3, #0
    beq 4f
    ldrd r5, r6, [sp, #K_STEP]
    KINGLET_ROUND r8, r2
    KINGLET_ROUND r9, r3
.if \n > 1
    KINGLET_ROUND r10, r2
    KINGLET_ROUND r11, r3
.endif
.if \n > 2
    KINGLET_ROUND r12, r2
    KINGLET_ROUND lr, r3
.endif
6:
    bfi r8, r9, #8, #8
.if \n > 1
    bfi r10, r11, #8, #8
    strh r10, [r4, r5]
.endif
.if \n > 2
    bfi r12, lr, #8, #8
    strh r12, [r4, r5, lsl #1]
.endif
    strh r8, [r4], #2
3:
    str r4, [sp, #K_Y]
    ldr r6, [sp, #K_Y_END]
    cmp r4, r6
    bne 1b
    add sp, sp, #76
    pop {r4-r11, pc}
4:  // What has no integers goes to the caller's function, if there is one.
.if KINGLET_FPU
    ldr r7, [sp, #K_OTHER]
    cmp r7, #0
    bne 5f
    // Else the floats lie as far behind the integers as the context says.
    ldr r7, [sp, #K_CONTEXT]
    add r7, r7, r6
    vldr s6, [r7, #-8]
    vldr s7, [r7, #-4]
    vmov s0, s1, r8, r9
    KINGLET_FLOAT s0, s6
    KINGLET_FLOAT s1, s7
.if \n > 1
    vmov s2, s3, r10, r11
    KINGLET_FLOAT s2, s6
    KINGLET_FLOAT s3, s7
.endif
.if \n > 2
    vmov s4, s5, r12, lr
    KINGLET_FLOAT s4, s6
    KINGLET_FLOAT s5, s7
.endif
    ldrd r5, r6, [sp, #K_STEP]
    asrs r6, r6, #3
    vmov r8, r9, s0, s1
    KINGLET_BYTE r8
    KINGLET_BYTE r9
.if \n > 1
    vmov r10, r11, s2, s3
    KINGLET_BYTE r10
    KINGLET_BYTE r11
.endif
.if \n > 2
    vmov r12, lr, s4, s5
    KINGLET_BYTE r12
    KINGLET_BYTE lr
.endif
    b 6b
5:
.endif
    str r1, [sp, #K_WEIGHTS]
    add r0, sp, #K_SUMS
.if \n == 1
    stmia r0, {r8, r9}
.endif
.if \n == 2
    stmia r0, {r8-r11}
.endif
.if \n == 3
    stmia r0, {r8-r12, lr}
.endif
    mov r0, sp
    ldr r2, [sp, #K_OTHER]
    blx r2
    ldr r1, [sp, #K_WEIGHTS]
    ldr r4, [sp, #K_Y]
    adds r4, r4, #2
    b 3b
.size kinglet_dense_\n, . - kinglet_dense_\n
.endm

// kinglet_widen_N(r0: first pixel, r1: bytes from pixel to pixel, r2: fours of inputs, r3: where to): gives where that ends
.macro KINGLET_WIDEN n
.section .text.kinglet_widen_\n, "ax", %progbits
.balign 4
.global kinglet_widen_\n
.type kinglet_widen_\n, %function
.thumb_func
kinglet_widen_\n:
    push {r4-r9, lr}
    add r12, r0, r1
    add lr, r12, r1
1:
    ldr r4, [r0], #4
.if \n > 1
    ldr r6, [r12], #4
.endif
.if \n > 2
    ldr r8, [lr], #4
.endif
    sxtb16 r5, r4, ror #8
    sxtb16 r4, r4
.if \n > 1
    sxtb16 r7, r6, ror #8
    sxtb16 r6, r6
.endif
.if \n > 2
    sxtb16 r9, r8, ror #8
    sxtb16 r8, r8
.endif
.if \n == 1
    stmia r3!, {r4, r5}
.endif
.if \n == 2
    stmia r3!, {r4-r7}
.endif
.if \n == 3
    stmia r3!, {r4-r9}
.endif
    subs r2, r2, #1
    bne 1b
    mov r0, r3
    pop {r4-r9, pc}
.size kinglet_widen_\n, . - kinglet_widen_\n
.endm

KINGLET_DENSE 1
KINGLET_DENSE 2
KINGLET_DENSE 3
KINGLET_WIDEN 1
KINGLET_WIDEN 2
KINGLET_WIDEN 3
