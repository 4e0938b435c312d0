// Bytes from one place to another, both of which lie at a multiple of four: see rounding.rs.

// kinglet_copy(r0: from, r1: to, r2: bytes)
.section .text.kinglet_copy, "ax", %progbits
.balign 4
.global kinglet_copy
.type kinglet_copy, %function
.thumb_func
kinglet_copy:
    push {r4-r10}
    subs r2, r2, #32
    blo 2f
1:
    ldmia r0!, {r3-r10}
    stmia r1!, {r3-r10}
    subs r2, r2, #32
    bhs 1b
2:
    adds r2, r2, #28
    bmi 4f
3:
    ldr r3, [r0], #4
    str r3, [r1], #4
    subs r2, r2, #4
    bpl 3b
4:
    adds r2, r2, #4
    beq 6f
5:
    ldrb r3, [r0], #1
    strb r3, [r1], #1
    subs r2, r2, #1
    bne 5b
6:
    pop {r4-r10}
    bx lr
.size kinglet_copy, . - kinglet_copy
