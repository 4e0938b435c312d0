// The sum of two quantised tensors by integers: see add.rs.

.equ A_SHIFT, 20                // SHIFT of sum.rs

// kinglet_add(r0: sum, r1: one, r2: the other, r3: results, on the stack: fours): gives the fours that are left from the first on that has a sum in doubt
.section .text.kinglet_add, "ax", %progbits
.balign 4
.global kinglet_add
.type kinglet_add, %function
.thumb_func
kinglet_add:
    push {r4-r11, lr}
    ldr r12, [sp, #36]
    ldmia r0!, {r9, r10, r11, lr}
    ldr r4, [r0]
    push {r4}
    lsl lr, lr, #32 - A_SHIFT
1:
    ldr r4, [r1], #4
    ldr r5, [r2], #4
    sxtb r6, r4
    sxtb r0, r5
    mla r6, r6, r9, r11
    mla r6, r0, r10, r6
    sxtb r7, r4, ror #8
    sxtb r0, r5, ror #8
    mla r7, r7, r9, r11
    mla r7, r0, r10, r7
    sxtb r8, r4, ror #16
    sxtb r0, r5, ror #16
    mla r8, r8, r9, r11
    mla r8, r0, r10, r8
    asr r4, r4, #24
    asr r5, r5, #24
    mla r4, r4, r9, r11
    mla r4, r5, r10, r4
    // What is rounded off of all is more than what is in doubt.
    cmp lr, r6, lsl #32 - A_SHIFT
    ittt lo
    cmplo lr, r7, lsl #32 - A_SHIFT
    cmplo lr, r8, lsl #32 - A_SHIFT
    cmplo lr, r4, lsl #32 - A_SHIFT
    bhs 2f
    ssat r6, #8, r6, asr #A_SHIFT
    ssat r7, #8, r7, asr #A_SHIFT
    ssat r8, #8, r8, asr #A_SHIFT
    ssat r4, #8, r4, asr #A_SHIFT
    bfi r6, r7, #8, #8
    bfi r6, r8, #16, #8
    bfi r6, r4, #24, #8
    ldr r5, [sp]
    ssub8 r4, r6, r5
    sel r6, r6, r5
    str r6, [r3], #4
    subs r12, r12, #1
    bne 1b
2:
    mov r0, r12
    add sp, sp, #4
    pop {r4-r11, pc}
.size kinglet_add, . - kinglet_add
