/* Random layers through the compiled convolution, compared with a plain one in double precision.

       driver CASES SEED [fork]

   With `fork`, the last layer is computed in a forked process, too. Prints the number of layers and the largest error; fails with a line for the first layer that is
   wrong, or that changes memory outside its output. */

#include "winograd.c"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t state;

static uint64_t next_number(void) { /* xorshift */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static int64_t between(int64_t least, int64_t most) {
    return least + (int64_t)(next_number() % (uint64_t)(most - least + 1));
}

static float random_value(void) { return (float)(next_number() >> 40) / (1 << 23) - 1.f; }

static float *random_values(int64_t count, int64_t used, float factor) {
    float *values = calloc(count, sizeof(float));
    for (int64_t i = 0; i < used; i++) values[i] = random_value() * factor;
    return values;
}

/* A map in the middle of NaN: `margin` pixels around it, and `spare` channels after each pixel. */
struct area {
    float *memory, *data;
    int64_t size, row, pixel, height, width, channels;
};

static struct area make_area(int64_t height, int64_t width, int64_t channels) {
    int64_t margin = between(0, 3), spare = between(0, 3) * 5;
    struct area area = {.height = height, .width = width, .channels = channels};
    area.pixel = channels + spare;
    area.row = (width + 2 * margin) * area.pixel;
    area.size = (height + 2 * margin) * area.row;
    area.memory = malloc(area.size * sizeof(float));
    area.data = area.memory + margin * (area.row + area.pixel);
    for (int64_t i = 0; i < area.size; i++) area.memory[i] = NAN;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            for (int64_t c = 0; c < channels; c++)
                area.data[y * area.row + x * area.pixel + c] = random_value();
    return area;
}

static struct map map_of(const struct area *area) {
    return (struct map){area->data, area->row, area->pixel, area->channels};
}

static double plain(const struct job *job, int64_t y, int64_t x, int64_t output) {
    int64_t width = job->panels * LANES, channel = 0;
    double sum = job->bias[output];
    for (int64_t i = 0; i < job->input_count; channel += job->inputs[i++].channels)
        for (int tap = 0; tap < 9; tap++) {
            const struct map *map = &job->inputs[i];
            int64_t row = y + tap / 3 - job->padding, column = x + tap % 3 - job->padding;
            if (row < 0 || row >= job->height || column < 0 || column >= job->width) continue;
            const float *pixel = (const float *)map->data + (row >> job->doublings) * map->row +
                                 (column >> job->doublings) * map->pixel;
            const float *weights =
                (const float *)job->weights + (tap * job->channels + channel) * width + output;
            for (int64_t c = 0; c < map->channels; c++) sum += (double)pixel[c] * weights[c * width];
        }
    if (sum < 0) sum *= job->slope[output];
    for (int64_t r = 0; r < job->residual_count; r++) {
        const struct map *map = &job->residuals[r];
        sum = (double)job->scale * sum +
              ((const float *)map->data)[y * map->row + x * map->pixel + output];
    }
    return sum;
}

/* Return the largest error of an output, and exit if it is wrong, or its surroundings changed. */
static double check(const struct job *job, const struct area *target, const float *before) {
    double worst = 0, largest = 1;
    for (int64_t i = 0; i < target->size; i++) {
        int64_t place = i - (target->data - target->memory);
        int64_t y = place / target->row, x = place % target->row / target->pixel;
        int64_t output = place % target->row % target->pixel;
        if (place < 0 || y >= target->height || x >= target->width || output >= target->channels) {
            if (!memcmp(&target->memory[i], &before[i], sizeof(float))) continue;
            printf("value %lld outside the output was changed\n", (long long)i);
            exit(1);
        }
        double expected = plain(job, y, x, output);
        worst = fmax(worst, fabs(target->memory[i] - expected));
        if (isnan(target->memory[i])) worst = INFINITY;
        largest = fmax(largest, fabs(expected));
    }
    if (worst < 3e-5 * largest) return worst;
    printf("%lld channels to %lld, %lld threads: error %g\n", (long long)job->channels,
           (long long)job->outputs, (long long)job->threads, worst);
    exit(1);
}

/* Compute in a forked process, too, which has none of its parent's threads. */
static void check_fork(struct job *job, const struct area *target) {
    float *expected = malloc(target->size * sizeof(float));
    memcpy(expected, target->memory, target->size * sizeof(float));
    pid_t child = fork();
    int status = 1;
    job->next_worker = job->next_strip = 0;
    if (child == 0) {
        run(job, job->threads);
        _exit(memcmp(expected, target->memory, target->size * sizeof(float)) != 0);
    }
    if (waitpid(child, &status, 0) != child || status) {
        printf("a forked process computes something else: status %d\n", status);
        exit(1);
    }
    free(expected);
}

static double compute_case(int forks) {
    struct area areas[MOST_INPUTS], added[MOST_RESIDUALS];
    struct job job = {.input_count = between(1, 3), .residual_count = between(0, 2)};
    int64_t height = between(3, 20), width = between(3, 20);
    job.doublings = between(0, 1), job.padding = between(0, 1), job.outputs = between(1, 37);
    job.panels = (job.outputs + LANES - 1) / LANES, job.scale = random_value();
    job.height = height << job.doublings, job.width = width << job.doublings;
    job.rows = job.height + 2 * job.padding - 2, job.columns = job.width + 2 * job.padding - 2;
    for (int64_t i = 0; i < job.input_count; i++) {
        areas[i] = make_area(height, width, 16 * between(1, 3));
        job.inputs[i] = map_of(&areas[i]);
        job.channels += areas[i].channels;
    }
    for (int64_t i = 0; i < job.residual_count; i++) {
        added[i] = make_area(job.rows, job.columns, job.outputs);
        job.residuals[i] = map_of(&added[i]);
    }
    int64_t panels = job.panels * LANES, count = 9 * job.channels * panels;
    float *weights = random_values(count, count, 1.7f / sqrtf(9 * job.channels));
    float *bias = random_values(panels, job.outputs, 1), *slope = random_values(panels, panels, 1);
    job.weights = weights, job.bias = bias, job.slope = slope;
    job.threads = forks ? 3 : between(1, 4);
    job.workspace_size = workspace_size(job.channels, job.panels);
    job.workspace = malloc(job.threads * job.workspace_size * sizeof(float));
    struct area target = make_area(job.rows, job.columns, job.outputs);
    job.output = target.data, job.output_row = target.row, job.output_pixel = target.pixel;
    float *before = malloc(target.size * sizeof(float));
    memcpy(before, target.memory, target.size * sizeof(float));
    run(&job, job.threads);
    double error = check(&job, &target, before);
    if (forks) check_fork(&job, &target);
    free(before), free(target.memory), free(job.workspace), free(weights), free(bias), free(slope);
    for (int64_t i = 0; i < job.input_count; i++) free(areas[i].memory);
    for (int64_t i = 0; i < job.residual_count; i++) free(added[i].memory);
    return error;
}

int main(int count, char **arguments) {
    double worst = 0;
    if (count < 3) return 2;
    int cases = atoi(arguments[1]), forks = count > 3;
    state = strtoull(arguments[2], NULL, 10) * 0x9e3779b97f4a7c15u;
    for (int i = 0; i < cases; i++) worst = fmax(worst, compute_case(forks && i == cases - 1));
    printf("%d layers, largest error %.2g\n", cases, worst);
    return 0;
}
