// Products of bytes of one pixel whose weights lie by twos, four channels at a time: see one.rs.
//
// Its inputs are taken apart where they lie: with four channels that costs each product less than to keep them as halfwords, which take twice their bytes.

// Words of a frame. The function works on a copy, below which lie the sums of four channels where these are not rounded here.
.equ O_X, 0
.equ O_WEIGHTS, 4               // beside the next: read together
.equ O_PANEL, 8
.equ O_Y, 12
.equ O_Y_END, 16
.equ O_STARTS, 20
.equ O_INTEGERS, 24
.equ O_ZERO, 28
.equ O_ENTRY, 32
.equ O_X_END, 36
.equ O_OTHER, 40
.equ O_CONTEXT, 44
.equ O_SUMS, 48

// Two channels, from the weights at `w`.
.macro KINGLET_ONE_PAIR w, a, b
    ldrd r2, r3, [\w], #8
    sxtb16 r4, r2
    sxtb16 r5, r3
    smlad \a, r6, r4, \a
    smlad \b, r6, r5, \b
    smlad \a, r7, r2, \a
    smlad \b, r7, r3, \b
.endm

// kinglet_one(r0: frame)
.section .text.kinglet_one, "ax", %progbits
.balign 4
.global kinglet_one
.type kinglet_one, %function
.thumb_func
kinglet_one:
    push {r4-r11, lr}
    sub sp, sp, #20
    ldmia r0, {r1-r12}
    push {r1-r12}
1:  // Four channels.
    ldr r2, [sp, #O_STARTS]
    ldmia r2!, {r8-r11}
    str r2, [sp, #O_STARTS]
    ldr r0, [sp, #O_X]
    ldrd r1, r12, [sp, #O_WEIGHTS]
    add r12, r12, r1
    ldr pc, [sp, #O_ENTRY]
.global kinglet_one_steps
kinglet_one_steps:
2:
.rept 8
    ldr r6, [r0], #4
    sxtb16 r7, r6
    eor r6, r6, #0x007f007f
    KINGLET_ONE_PAIR r1, r8, r9
    KINGLET_ONE_PAIR r12, r10, r11
.endr
.global kinglet_one_end
kinglet_one_end:
    ldr r6, [sp, #O_X_END]
    cmp r0, r6
    bne 2b
    str r12, [sp, #O_WEIGHTS]
    ldr r7, [sp, #O_INTEGERS]
    ldmia r7!, {r2-r5}
    str r7, [sp, #O_INTEGERS]
    ldr r6, [sp, #O_ZERO]
    cmp r2, #0
    ittt ne
    cmpne r3, #0
    cmpne r4, #0
    cmpne r5, #0
    beq 5f
    KINGLET_ROUND r8, r2, 1
    KINGLET_ROUND r9, r3, 1
    KINGLET_ROUND r10, r4, 1
    KINGLET_ROUND r11, r5, 1
3:
    ldr r4, [sp, #O_Y]
    bfi r8, r9, #8, #8
    bfi r8, r10, #16, #8
    bfi r8, r11, #24, #8
    str r8, [r4], #4
4:
    str r4, [sp, #O_Y]
    ldr r6, [sp, #O_Y_END]
    cmp r4, r6
    bne 1b
    add sp, sp, #68
    pop {r4-r11, pc}
5:  // One has no integer: to the caller's function, if there is one.
.if KINGLET_FPU
    ldr r2, [sp, #O_OTHER]
    cmp r2, #0
    bne 6f
    // Else the floats lie as far behind the integers as the context says.
    ldr r2, [sp, #O_CONTEXT]
    add r2, r2, r7
    sub r2, r2, #16
    vldmia r2, {s4-s7}
    vmov s0, s1, r8, r9
    vmov s2, s3, r10, r11
    KINGLET_FLOAT s0, s4, 1
    KINGLET_FLOAT s1, s5, 1
    KINGLET_FLOAT s2, s6, 1
    KINGLET_FLOAT s3, s7, 1
    asrs r6, r6, #11
    vmov r8, r9, s0, s1
    vmov r10, r11, s2, s3
    KINGLET_BYTE r8
    KINGLET_BYTE r9
    KINGLET_BYTE r10
    KINGLET_BYTE r11
    b 3b
6:
.endif
    asr r8, r8, #8
    asr r9, r9, #8
    asr r10, r10, #8
    asr r11, r11, #8
    add r0, sp, #O_SUMS
    stmia r0, {r8-r11}
    mov r0, sp
    ldr r2, [sp, #O_OTHER]
    blx r2
    ldr r4, [sp, #O_Y]
    adds r4, r4, #4
    b 4b
.size kinglet_one, . - kinglet_one
