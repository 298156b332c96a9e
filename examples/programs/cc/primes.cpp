// Counts the primes below a number, on all processors.
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

static bool is_prime(std::int64_t number) {
    for (std::int64_t divisor = 3; divisor * divisor <= number; divisor += 2) {
        if (number % divisor == 0) {
            return false;
        }
    }
    return true;
}

int main(int count, char** words) {
    try {
        const std::int64_t limit = count > 1 ? std::stoll(words[1]) : 1'000'000;
        std::int64_t found = limit > 2 ? 1 : 0;
#pragma omp parallel for schedule(dynamic, 1024) reduction(+ : found)
        for (std::int64_t number = 3; number < limit; number += 2) {
            found += is_prime(number);
        }
        std::cout << found << " primes below " << limit << '\n';
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "primes: not a number: " << words[1] << " (" << error.what() << ")\n";
        return 2;
    }
}
