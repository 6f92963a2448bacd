/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What vCPUs settle among themselves (sharing.c): who may write a page, who has code of it, and
 * how one stops the others. The threads here do what vCPUs' threads do, less the guest.
 */
#include "engine/soft/translate.h"

#include "soft_vcpu.h"

#include <sched.h>

#define VCPUS  3u
#define CODE   0x40000u /* a page to write and to translate from */
#define ROUNDS 400u

struct crew {
	struct fixture *one;
	struct soft *soft;
	struct vcpu *vcpu[VCPUS];
	_Atomic bool over;
	u64 sum; /* nobody's lock guards it */
};

static int setup_crew(void **state)
{
	struct problem why;
	struct crew *crew;
	void *one;

	if (setup(&one))
		return -1;
	crew = calloc(1, sizeof(*crew));
	crew->one = one;
	/* With room for more than the fixture has. */
	crew->soft = calloc(1, sizeof(*crew->soft) + VCPUS * sizeof(struct vcpu *));
	memcpy(crew->soft, crew->one->soft, sizeof(*crew->soft));
	crew->soft->vcpu_count = VCPUS;
	for (unsigned i = 0; i < VCPUS; i++) {
		crew->vcpu[i] = crew->soft->vcpus[i] = vcpu_new(crew->soft, i, NULL, &why);
		assert_non_null(crew->vcpu[i]);
		crew->vcpu[i]->vectors_saved = true;
	}
	crew->soft->vcpus_added = VCPUS;
	*state = crew;
	return 0;
}

static int teardown_crew(void **state)
{
	struct crew *crew = *state;
	void *one = crew->one;

	for (unsigned i = 0; i < VCPUS; i++)
		vcpu_free(crew->vcpu[i]);
	free(crew->soft);
	free(crew);
	return teardown(&one);
}

static bool has_tag(struct vcpu *vcpu, u64 address)
{
	return mem_direct(vcpu, address, ACCESS_WRITE);
}

/* As translate() does: the page is marked, the bytes are read, the block is known. */
static u64 make_block(struct vcpu *vcpu, u64 gpa)
{
	struct block *block;
	u64 bytes;

	cache_reserve(vcpu);
	cache_protect(vcpu, gpa);
	block = cache_alloc(vcpu->cache, sizeof(*block));
	bytes = __atomic_load_n((u64 *)(void *)ram_at(vcpu->soft, gpa), __ATOMIC_RELAXED);
	block->gpa = gpa;
	block->offset = gpa % PAGE_SIZE;
	block->length = sizeof(bytes);
	block->code = vcpu->cache->run + vcpu->cache->used;
	cache_add(vcpu, block);
	return bytes;
}

static void test_code_takes_the_right_to_write(void **state)
{
	struct crew *crew = *state;
	struct vcpu *writer = crew->vcpu[0], *coder = crew->vcpu[1];

	assert_true(has_tag(writer, CODE));
	assert_true(has_tag(coder, CODE));
	vcpu_resume(coder);
	make_block(coder, CODE);
	assert_int_equal(coder->stats.rights_revoked, 1);
	assert_false(has_tag(writer, CODE));
	assert_false(has_tag(coder, CODE));
	assert_true(has_tag(writer, CODE + PAGE_SIZE));
	cache_flush(coder);
	vcpu_rest(coder);
	assert_true(has_tag(writer, CODE));
}

static void test_each_coder_is_told(void **state)
{
	struct crew *crew = *state;
	u64 value = 1;

	for (unsigned i = 1; i < VCPUS; i++) {
		vcpu_resume(crew->vcpu[i]);
		make_block(crew->vcpu[i], CODE);
		vcpu_rest(crew->vcpu[i]);
	}
	/* Another 64 bytes are nobody's business. */
	assert_true(mem_write(crew->vcpu[0], CODE + 64, &value, sizeof(value), ACCESS_WRITE));
	assert_int_equal(crew->vcpu[1]->written.count, 0);
	assert_true(mem_write(crew->vcpu[0], CODE + 8, &value, sizeof(value), ACCESS_WRITE));
	assert_int_equal(crew->vcpu[0]->written.count, 0);
	for (unsigned i = 1; i < VCPUS; i++) {
		assert_int_equal(crew->vcpu[i]->written.count, 1);
		assert_int_equal(crew->vcpu[i]->written.range[0].gpa, CODE + 8);
		assert_int_equal(crew->vcpu[i]->written.range[0].length, 8);
		assert_true(atomic_load(&crew->vcpu[i]->ctx.poll) & POLL_CODE);
		cache_drop_written(crew->vcpu[i]);
		assert_int_equal(crew->vcpu[i]->written.count, 0);
	}
	/* A device is nobody's vCPU. */
	cache_device_wrote(crew->soft, CODE - 4, 8);
	assert_int_equal(crew->vcpu[0]->written.count, 0);
	assert_int_equal(crew->vcpu[1]->written.count, 1);
	assert_int_equal(crew->vcpu[1]->written.range[0].gpa, CODE);
}

static void test_reports_add_up(void **state)
{
	struct crew *crew = *state;
	struct vcpu *coder = crew->vcpu[1];

	vcpu_resume(coder);
	for (u64 page = 0; page <= ARRAY_SIZE(coder->written.range); page++)
		make_block(coder, CODE + page * PAGE_SIZE);
	vcpu_rest(coder);
	for (u64 at = 0; at < 64; at += 8)
		cache_device_wrote(crew->soft, CODE + at, 8);
	assert_int_equal(coder->written.count, 1);
	assert_int_equal(coder->written.range[0].length, PAGE_SIZE);
	assert_false(coder->written.overflow);
	for (u64 page = 1; page <= ARRAY_SIZE(coder->written.range); page++)
		cache_device_wrote(crew->soft, CODE + page * PAGE_SIZE, 8);
	assert_true(coder->written.overflow);
	cache_drop_written(coder);
	assert_false(coder->written.overflow);
	assert_int_equal(coder->stats.cache_flushes, 1);
}

/* What the run loop does between two instructions. */
static void boundary(struct vcpu *vcpu)
{
	if (atomic_exchange(&vcpu->ctx.poll, 0) & POLL_VISIT)
		vcpu_give_way(vcpu);
}

/* Writes as translated code does, through the tag; without one not at all. */
static void *write_by_tag(void *opaque)
{
	struct crew *crew = opaque;
	struct vcpu *vcpu = crew->vcpu[0];

	vcpu_resume(vcpu);
	for (u64 value = 1; !atomic_load(&crew->over); value++) {
		u8 *host = mem_direct(vcpu, CODE, ACCESS_WRITE);

		/* Between the look and the store. */
		sched_yield();
		if (host)
			__atomic_store_n((u64 *)(void *)host, value, __ATOMIC_RELAXED);
		boundary(vcpu);
	}
	vcpu_rest(vcpu);
	return NULL;
}

/* One translates from a page, again and again, while another writes to it. */
struct race {
	struct vcpu *coder;
	u64 before;		  /* what was translated the last time */
	unsigned written, missed; /* times, of ROUNDS */
};

/* `look` is called while the writer is stopped: what was translated, and what is there now. */
static struct race run_race(struct crew *crew, void *(*writer)(void *crew),
			    void (*look)(struct race *race, u64 translated, u64 now))
{
	const u64 *word = (const u64 *)(const void *)(crew->one->ram + CODE);
	struct race race = {.coder = crew->vcpu[1]};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, writer, crew), 0);
	vcpu_resume(race.coder);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 translated = make_block(race.coder, CODE);

		sched_yield();
		vcpu_stop_others(race.coder);
		look(&race, translated, __atomic_load_n(word, __ATOMIC_RELAXED));
		vcpu_let_others_run(race.coder);
		cache_drop_written(race.coder);
		cache_flush(race.coder);
		sched_yield();
	}
	vcpu_rest(race.coder);
	atomic_store(&crew->over, true);
	pthread_join(thread, NULL);
	return race;
}

static void look_for_a_change(struct race *race, u64 translated, u64 now)
{
	race->missed += now != translated;
	race->written += translated != race->before;
	race->before = translated;
}

static void test_no_tag_outlives_code(void **state)
{
	struct race race = run_race(*state, write_by_tag, look_for_a_change);

	assert_int_equal(race.missed, 0);
	assert_true(race.written > 0);
}

/* Writes as C does, which reports where there is no tag. */
static void *write_on(void *opaque)
{
	struct crew *crew = opaque;
	struct vcpu *vcpu = crew->vcpu[0];

	vcpu_resume(vcpu);
	for (u64 value = 1; !atomic_load(&crew->over); value++) {
		mem_write(vcpu, CODE, &value, sizeof(value), ACCESS_WRITE);
		boundary(vcpu);
	}
	vcpu_rest(vcpu);
	return NULL;
}

/* Whoever wrote that has told us when he comes to his next instruction. */
static void look_for_a_report(struct race *race, u64 translated, u64 now)
{
	race->written += now != translated;
	race->missed += now != translated && !race->coder->written.count;
}

static void test_no_write_is_missed(void **state)
{
	struct race race = run_race(*state, write_on, look_for_a_report);

	assert_int_equal(race.missed, 0);
	assert_true(race.written > 0);
}

static void *add_alone(void *opaque)
{
	struct vcpu *vcpu = opaque;
	struct crew *crew = (struct crew *)vcpu->soft->trace; /* the tests trace nothing */

	vcpu_resume(vcpu);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 sum;

		vcpu_stop_others(vcpu);
		sum = crew->sum;
		if (i % 64 == 0)
			sched_yield();
		crew->sum = sum + 1;
		vcpu_let_others_run(vcpu);
		boundary(vcpu);
	}
	vcpu_rest(vcpu);
	return NULL;
}

static void test_alone_is_alone(void **state)
{
	struct crew *crew = *state;
	pthread_t thread[VCPUS];

	crew->soft->trace = (FILE *)crew;
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, add_alone, crew->vcpu[i]), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(crew->sum, VCPUS * ROUNDS);
	crew->soft->trace = NULL;
}

/* ROUNDS times, each takes the page from the others. */
static void *take_in_turns(void *opaque)
{
	struct vcpu *vcpu = opaque;

	vcpu_resume(vcpu);
	for (unsigned i = 0; i < ROUNDS; i++) {
		has_tag(vcpu, CODE);
		make_block(vcpu, CODE);
		cache_flush(vcpu);
		boundary(vcpu);
	}
	vcpu_rest(vcpu);
	return NULL;
}

/* It ends: nobody waits for somebody who waits for him. */
static void test_nobody_waits_for_ever(void **state)
{
	struct crew *crew = *state;
	pthread_t thread[VCPUS];

	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, take_in_turns, crew->vcpu[i]), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_join(thread[i], NULL);
}

/* An address whose place in the jump cache is the first, where all jumps look after a kick. */
#define JUMPED_TO 0x3ffdu

/*
 * A kick may be so late that it ends when it was answered already, in the midst of what the vCPU
 * writes there. So it says nothing of the address: that code is never another's.
 */
static void test_kicks_mislead_no_jump(void **state)
{
	static u8 code[1];
	struct block block = {.code = code};
	struct crew *crew = *state;
	struct vcpu *vcpu = crew->vcpu[0];
	struct jump_cache *cache = &vcpu->ctx.kernel[VIEW_KERNEL].jump;

	assert_int_equal(soft_jump_index(JUMPED_TO), 0);
	atomic_store(&vcpu->ctx.poll, 0);
	jump_remember(vcpu, JUMPED_TO, &block);
	assert_ptr_equal(cache->code[0], code);
	vcpu_kick(vcpu, POLL_INTERRUPT);
	assert_ptr_equal(cache->code[0], soft_jump_stub);
	assert_int_equal(cache->tag[0], -(u64)JUMPED_TO);
	/* Nor is it opened before the kick was answered. */
	jump_remember(vcpu, JUMPED_TO, &block);
	assert_ptr_equal(cache->code[0], soft_jump_stub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CREW(name) cmocka_unit_test_setup_teardown(name, setup_crew, teardown_crew)
		CREW(test_code_takes_the_right_to_write),
		CREW(test_each_coder_is_told),
		CREW(test_reports_add_up),
		CREW(test_no_tag_outlives_code),
		CREW(test_no_write_is_missed),
		CREW(test_alone_is_alone),
		CREW(test_nobody_waits_for_ever),
		CREW(test_kicks_mislead_no_jump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
