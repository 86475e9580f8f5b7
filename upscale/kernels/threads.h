/* A pool of persistent threads: starting or waking a thread takes as long as a small layer. Each
   thread polls for its next job for about a millisecond, the time between two layers, and then
   sleeps. */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MOST_THREADS = 256, SPINS = 20000, SPINS_TO_YIELD = 2000 };

struct job;

/* Compute parts of a job until none are left; called by several threads at once. */
static void work(struct job *job);

static struct helper {
    _Atomic int taken, asleep;
    _Atomic(struct job *) job; /* NULL when it is done */
    int started;               /* whether the thread exists; accessed by the owner of `taken` */
    pthread_mutex_t mutex;
    pthread_cond_t given;
} helpers[MOST_THREADS];

static inline void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static struct job *next_job(struct helper *helper) {
    struct job *job = NULL;
    for (int i = 0; i < SPINS && !(job = atomic_load(&helper->job)); i++) pause_a_little();
    if (job) return job;
    pthread_mutex_lock(&helper->mutex);
    atomic_store(&helper->asleep, 1); /* set before the last check: `give` checks it after storing */
    while (!(job = atomic_load(&helper->job))) pthread_cond_wait(&helper->given, &helper->mutex);
    atomic_store(&helper->asleep, 0);
    pthread_mutex_unlock(&helper->mutex);
    return job;
}

static void *help(void *argument) {
    struct helper *helper = argument;
    for (;;) {
        work(next_job(helper));
        atomic_store(&helper->job, NULL);
    }
    return NULL;
}

/* A forked process has no threads of its parent. */
static void forget_helpers(void) {
    for (int i = 0; i < MOST_THREADS; i++) helpers[i] = (struct helper){0};
}

static void forget_helpers_in_forks(void) { pthread_atfork(NULL, NULL, forget_helpers); }

/* Start a thread with all signals blocked, so that they reach the threads of the program. */
static int start(struct helper *helper) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_t thread;
    sigset_t all, before;
    pthread_once(&once, forget_helpers_in_forks);
    pthread_mutex_init(&helper->mutex, NULL);
    pthread_cond_init(&helper->given, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    helper->started = !pthread_create(&thread, NULL, help, helper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (helper->started) pthread_detach(thread);
    return helper->started;
}

static int give(struct helper *helper, struct job *job) {
    if (!helper->started && !start(helper)) return 0;
    atomic_store(&helper->job, job);
    if (atomic_load(&helper->asleep)) {
        pthread_mutex_lock(&helper->mutex);
        pthread_cond_signal(&helper->given);
        pthread_mutex_unlock(&helper->mutex);
    }
    return 1;
}

static void wait_for(struct helper *helper) {
    for (int i = 0; atomic_load(&helper->job); i++)
        if (i < SPINS_TO_YIELD) pause_a_little();
        else sched_yield();
}

/* Run a job in this thread and in free threads of the pool. */
void run(struct job *job, int64_t threads) {
    struct helper *mine[MOST_THREADS];
    int count = 0;
    for (int i = 0; i < MOST_THREADS && count + 1 < threads; i++) {
        if (atomic_exchange(&helpers[i].taken, 1)) continue;
        if (give(&helpers[i], job)) mine[count++] = &helpers[i];
        else {
            atomic_store(&helpers[i].taken, 0);
            break;
        }
    }
    work(job);
    while (count) {
        wait_for(mine[--count]);
        atomic_store(&mine[count]->taken, 0);
    }
}
